"""What is known by name not to travel, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """What the value is, and what to do instead."""

    what: str
    cure: str


TOP = "Move it to the top of a module, and send its dotted path as text."
PATH = "Send its dotted path as text."
VALUES = "Send its values, or the name of what is to be loaded in the job."
IN_THE_JOB = "Leave it out: the job has its own."

FUNCTION = Obstacle("a function", PATH)
NESTED = Obstacle("a function defined inside another", TOP)
BOUND = Obstacle("a method of this object", PATH)
A_CLASS = Obstacle("a class", PATH)
MODULE = Obstacle("a module", "Send its name, or import it in the job.")
EXCEPTION = Obstacle("an exception", "Send its text: str(error), or frappe.get_traceback().")
ENUM = Obstacle("a member of an Enum", "Send its value or its name.")
PROXY = Obstacle(
    "a proxy of the open request's data", "Send a copy: frappe._dict(…), or its values."
)
AS_LIST = "Send a list: list(…)."

#: What these paths lead to.
PATHS = {
    **dict.fromkeys(
        ("frappe.db", "frappe.local.db", "frappe.qb", "frappe.cache"),
        Obstacle("a connection", IN_THE_JOB),
    ),
    **dict.fromkeys(
        ("frappe.request", "frappe.local.request", "flask.request"),
        Obstacle("a web request", "Send the values of it that the job needs."),
    ),
    "frappe.local": Obstacle("a thread's own state", IN_THE_JOB),
    **dict.fromkeys(("frappe.form_dict", "frappe.session", "frappe.flags", "frappe.conf"), PROXY),
}
#: What calls of these give; a bare name is a builtin's.
CALLS = {
    **dict.fromkeys(("open", "io.open"), Obstacle("an open file", "Send its path or its content.")),
    **dict.fromkeys(
        ("io.StringIO", "io.BytesIO"), Obstacle("a file in memory", "Send its content: getvalue().")
    ),
    **dict.fromkeys(("map", "filter", "zip", "iter", "reversed", "enumerate"),
                    Obstacle("an iterator", AS_LIST)),
    "type": A_CLASS,
    "object": Obstacle("an object without values", "Send a text or None instead."),
    "super": Obstacle("a proxy of this object", VALUES),
    "memoryview": Obstacle("a memoryview", "Send bytes: bytes(…)."),
    "functools.partial": Obstacle(
        "a functools.partial", "Send the function's path and its values."
    ),
    "re.compile": Obstacle("a compiled pattern", "Send its text."),
    **dict.fromkeys(
        ("pathlib.Path", "pathlib.PurePath"), Obstacle("a Path", "Send its text: str(…).")
    ),
    **dict.fromkeys(
        ("threading.Lock", "threading.RLock", "threading.Event", "threading.Thread"),
        Obstacle("a thing of this process's threads", IN_THE_JOB),
    ),
    **dict.fromkeys(("logging.getLogger", "frappe.logger"), Obstacle("a logger", IN_THE_JOB)),
    "types.SimpleNamespace": Obstacle("a SimpleNamespace", "Send a dict: vars(…)."),
    "requests.Session": Obstacle("an HTTP session", "Open it in the job."),
}  # fmt: skip
VIEWS = ("keys", "values", "items")
