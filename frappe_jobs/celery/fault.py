"""What a message must look like to be taken: a list of what is allowed.

Celery believes what a message says.  A header of an unexpected type raises in the worker's parent
and ends it, and then every other worker that gets the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from celery.app.task import Context
from kombu.exceptions import ContentDisallowed

from frappe_jobs.celery.transport.amqp import UNREADABLE
from frappe_jobs.config import Settings
from frappe_jobs.errors import BadMessage, LaterVersion, shortened
from frappe_jobs.message import HEADER, TASK, Message, is_of_later_version
from frappe_jobs.texts.json_text import inside, is_too_deep

#: Celery's own tasks: ``celery.map``, ``celery.chord_unlock``, ….
BUILT_IN = "celery."

#: ``enqueue`` allows 100 levels, at most three times as many in JSON; Celery fails at twice this.
DEEPEST = 320
#: Our own headers nest no deeper than 3.
DEEPEST_HEADER = 20

#: A message's id: a name in Redis, in logs and in Celery's result.
ID = re.compile(r"[!-~]{1,255}")
#: Bytes of a body beside the arguments: it may be this much over a message's largest size.
ALLOWANCE = 10_000

#: The parts of a task's body that say what Celery does after it.
EMBEDS = ("callbacks", "errbacks", "chain", "chord")

Check = Callable[[Any], bool]


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_moment(value: object) -> bool:
    """A time as Celery writes it, and in a reasonable year."""
    if value is None:
        return True
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00"))  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return False
    return 2000 <= found.year < 3000


def _are_limits(value: object) -> bool:
    return not value or (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(limit is None or _is_limit(limit) for limit in value)
    )


def _is_limit(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**31


def _are_stamped(value: object) -> bool:
    return value is None or (
        isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
    )


#: Celery's protocol: the headers that it reads, what each may be, and what it is called.
PROTOCOL: dict[str, tuple[Check, str]] = {
    "lang": (_is_text, "language"),
    "shadow": (_is_text, "name"),
    "eta": (_is_moment, "time to run at"),
    "expires": (_is_moment, "time to expire"),
    "group": (_is_text, "group"),
    "group_index": (lambda value: value is None or _is_count(value), "place in a group"),
    "retries": (_is_count, "number of retries"),
    "timelimit": (_are_limits, "pair of time limits"),
    "root_id": (_is_text, "root"),
    "parent_id": (_is_text, "parent"),
    "argsrepr": (_is_text, "text of its arguments"),
    "kwargsrepr": (_is_text, "text of its arguments"),
    "origin": (_is_text, "origin"),
    "ignore_result": (_is_flag, "flag"),
    "replaced_task_nesting": (_is_count, "number"),
    "stamped_headers": (_are_stamped, "list of stamps"),
    "stamps": (lambda value: value is None or isinstance(value, dict), "object of stamps"),
    "redelivered": (_is_flag, "flag"),
    "compression": (_is_text, "compression"),
    # Custom headers once more, for Celery issue 4875: Sentry and Datadog send them.
    "headers": (lambda value: value is None or isinstance(value, dict), "object of headers"),
}

#: Names under which Celery keeps its own state of a message; no header may have them.
OWN = frozenset(dir(Context)) - PROTOCOL.keys() - {"id", "task"}


def fault_of(message: Any, *, runs_built_ins: bool) -> str | None:
    """What in a message would make Celery fail; None if nothing.

    ``runs_built_ins``: the app is a team's own, which may use Celery's own tasks.
    """
    headers = message.headers
    if message.content_type == UNREADABLE:
        return "has properties that cannot be read"
    if not isinstance(headers, dict) or not isinstance(headers.get("task"), str):
        return _fault_of_what_cannot_be_read(message) or "is no Celery task"
    if headers["task"] == TASK:
        return None  # its strategy checks more
    if headers["task"].startswith(BUILT_IN) and not runs_built_ins:
        return f"names a task of Celery's own, which is not used here: {headers['task']!r:.100}"
    return (
        _fault_of_headers(headers)
        or _fault_of_what_cannot_be_read(message)
        or _fault_of_body(message)
    )


def fault_of_job(message: Any, settings: Settings) -> str | None:
    """What in a message of our task shows that we did not send it; None if nothing."""
    if message.content_type != "application/json":
        return f"is {shortened(message.content_type)}, not JSON"
    if str(message.content_encoding).lower() != "utf-8":
        return f"is encoded as {shortened(message.content_encoding)}, not as UTF-8"
    if len(message.body) > settings.max_message_size + ALLOWANCE:
        return f"is of {len(message.body)} bytes: over 'frappe_jobs_max_message_size'"
    headers = message.headers
    return (
        _fault_of_headers(headers)
        or _fault_of_a_jobs_headers(headers)
        or _fault_of_what_cannot_be_read(message)
        or _fault_of_body(message)
        or _fault_of_a_jobs_body(message, headers, settings)
    )


def _fault_of_headers(headers: Mapping[Any, Any]) -> str | None:
    message_id = headers.get("id")
    if not isinstance(message_id, str) or not ID.fullmatch(message_id):
        return f"has no id: {shortened(message_id)}"
    for name, value in headers.items():
        if not isinstance(name, str):
            return f"has a header that is no text: {shortened(name)}"
        if name in PROTOCOL:
            is_allowed, what = PROTOCOL[name]
            if not is_allowed(value):
                return f"has under {name!r} no {what}: {shortened(value)}"
    if is_too_deep(headers, DEEPEST_HEADER):
        return f"has headers that are nested over {DEEPEST_HEADER} deep"
    return None


def _fault_of_what_cannot_be_read(message: Any) -> str | None:
    try:
        message.payload
    except ContentDisallowed as error:
        return f"is of a kind that the app does not accept ('accept_content'): {error}"
    except Exception as error:  # a decoder may raise anything
        return f"cannot be read: {type(error).__name__}: {error}"
    return None


def _fault_of_body(message: Any) -> str | None:
    payload = message.payload
    is_one = isinstance(payload, (list, tuple)) and len(payload) == 3
    if not is_one or [type(part) for part in payload] != [list, dict, dict]:
        return "holds no arguments of a Celery task"
    for name in EMBEDS:
        embed, kind = payload[2].get(name), dict if name == "chord" else list
        if embed and not isinstance(embed, kind):
            return f"has an invalid {name!r}: {shortened(embed)}"
    if _may_be_deep(message.body) and is_too_deep(payload, DEEPEST):
        return f"has an argument that is nested over {DEEPEST} deep"
    return None


def _may_be_deep(body: Any) -> bool:
    """A cheap test: whether it has that many brackets."""
    text = body.encode("utf-8", "replace") if isinstance(body, str) else bytes(body)
    return text.count(b"[") + text.count(b"{") > DEEPEST


def _fault_of_a_jobs_headers(headers: Mapping[str, Any]) -> str | None:
    for name, value in headers.items():
        if name in OWN:
            return f"has a header of Celery's own making: {name!r}"
        if not _is_sendable(value):
            return f"has under {name!r} a text that cannot be sent: {shortened(value)}"
    if headers.get("expires") is not None:
        return f"expires, which a job never does: {headers['expires']!r}"
    inner = headers.get("headers") or {}
    if HEADER in inner and inner[HEADER] != headers.get(HEADER):
        return "has two envelopes"
    return None


def _is_sendable(value: object) -> bool:
    """Whether Redis takes it: no text with half of a character."""
    try:
        return not isinstance(value, str) or value.isascii() or bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _fault_of_a_jobs_body(
    message: Any, headers: Mapping[str, Any], settings: Settings
) -> str | None:
    arguments, keywords, embed = message.payload
    if any(embed.values()):
        return f"asks Celery for more than the job: {shortened(embed)}"
    envelope = headers.get(HEADER)
    if is_of_later_version(envelope):
        return None  # it is put back, for a newer worker
    if keywords or len(arguments) != 1:
        return "holds other arguments than those of a job"
    if _may_hold_objects(message.body) and not _is_json(arguments):
        return "holds an argument that is no JSON"
    try:
        ours = Message.from_wire(envelope, arguments[0])
    except LaterVersion:
        return None
    except BadMessage as error:
        return f"is no job: {error}"
    if ours.id != headers["id"]:
        return f"calls itself {shortened(ours.id)}, but has another id"
    if ours.queue not in settings.queues:
        return f"is for the queue {shortened(ours.queue)}, which is not configured"
    return None


def _may_hold_objects(body: Any) -> bool:
    """Whether kombu's decoder may have made it into objects that JSON does not know."""
    text = body.encode("utf-8", "replace") if isinstance(body, str) else bytes(body)
    return b"__type__" in text or b"\\u" in text


def _is_json(value: object) -> bool:
    level: list[Any] = [value]
    while level:
        if not all(isinstance(part, (str, int, float, list, dict, type(None))) for part in level):
            return False
        level = [item for part in level for item in inside(part)]
    return True
