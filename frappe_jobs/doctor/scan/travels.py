"""Why an argument will not travel as JSON, where its source shows that."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from frappe_jobs.doctor.scan.names import Binding, Function, Scope, inside


@dataclass(frozen=True)
class Refusal:
    """What the value is, and what to do instead."""

    what: str
    cure: str


TOP = "Move it to the top of a module, and send its dotted path as text."
PATH = "Send its dotted path as text."
VALUES = "Send its values, or the name of what is to be loaded in the job."
IN_THE_JOB = "Leave it out: the job has its own."

FUNCTION = Refusal("a function", PATH)
NESTED = Refusal("a function defined inside another", TOP)
BOUND = Refusal("a method of this object", PATH)
A_CLASS = Refusal("a class", PATH)
MODULE = Refusal("a module", "Send its name, or import it in the job.")
EXCEPTION = Refusal("an exception", "Send its text: str(error), or frappe.get_traceback().")
ENUM = Refusal("a member of an Enum", "Send its value or its name.")
PROXY = Refusal(
    "a proxy of the open request's data", "Send a copy: frappe._dict(…), or its values."
)
AS_DICT = "Send a plain dict: dict(…)."
AS_LIST = "Send a list: list(…)."

#: What these paths lead to.
PATHS = {
    **dict.fromkeys(
        ("frappe.db", "frappe.local.db", "frappe.qb", "frappe.cache"),
        Refusal("a connection", IN_THE_JOB),
    ),
    **dict.fromkeys(
        ("frappe.request", "frappe.local.request", "flask.request"),
        Refusal("a web request", "Send the values of it that the job needs."),
    ),
    "frappe.local": Refusal("a thread's own state", IN_THE_JOB),
    **dict.fromkeys(("frappe.form_dict", "frappe.session", "frappe.flags", "frappe.conf"), PROXY),
}
#: What calls of these give; the name alone is that of a builtin.
CALLS = {
    **dict.fromkeys(("open", "io.open"), Refusal("an open file", "Send its path or its content.")),
    **dict.fromkeys(
        ("io.StringIO", "io.BytesIO"), Refusal("a file in memory", "Send its content: getvalue().")
    ),
    **dict.fromkeys(("map", "filter", "zip", "iter", "reversed", "enumerate"),
                    Refusal("an iterator", AS_LIST)),
    "range": Refusal("a range", AS_LIST),
    "collections.deque": Refusal("a deque", AS_LIST),
    **dict.fromkeys(
        ("collections.defaultdict", "collections.OrderedDict", "collections.Counter"),
        Refusal("a subclass of dict", AS_DICT),
    ),
    "type": A_CLASS,
    "object": Refusal("an object without values", "Send a text or None instead."),
    "super": Refusal("a proxy of this object", VALUES),
    "memoryview": Refusal("a memoryview", "Send bytes: bytes(…)."),
    "functools.partial": Refusal("a functools.partial", "Send the function's path and its values."),
    "re.compile": Refusal("a compiled pattern", "Send its text."),
    **dict.fromkeys(
        ("pathlib.Path", "pathlib.PurePath"), Refusal("a Path", "Send its text: str(…).")
    ),
    **dict.fromkeys(
        ("threading.Lock", "threading.RLock", "threading.Event", "threading.Thread"),
        Refusal("a thing of this process's threads", IN_THE_JOB),
    ),
    **dict.fromkeys(("logging.getLogger", "frappe.logger"), Refusal("a logger", IN_THE_JOB)),
    "types.SimpleNamespace": Refusal("a SimpleNamespace", "Send a dict: vars(…)."),
    "requests.Session": Refusal("an HTTP session", "Open it in the job."),
}  # fmt: skip
VIEWS = ("keys", "values", "items")
ENUMS = {f"enum.{name}" for name in ("Enum", "IntEnum", "StrEnum", "Flag", "IntFlag")}
DATACLASSES = {"dataclass", "dataclasses.dataclass", "dataclass(frozen=True)"}
#: Parents of a class that add nothing by which its objects could travel.
PLAIN = {"abc.ABC", "typing.Protocol", "typing.NamedTuple"}

#: So far a name is followed from value to value.
DEPTH = 8


def refusal(value: ast.expr, scope: Scope, depth: int = 0) -> Refusal | None:
    """Why it will not travel; None where it will, and where nobody can tell without running it."""
    if depth > DEPTH:
        return None
    match value:
        case ast.Lambda():
            return Refusal("a lambda", "Make it a function at the top of a module; send its path.")
        case ast.GeneratorExp():
            return Refusal("a generator", AS_LIST)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return _first([one for one in parts if not isinstance(one, ast.Starred)], scope, depth)
        case ast.Dict(keys=keys, values=values):
            return _first([one for one in [*keys, *values] if one], scope, depth)
        case ast.ListComp(elt=part) | ast.SetComp(elt=part) | ast.DictComp(value=part):
            return refusal(part, inside(value, scope), depth + 1)
        case ast.IfExp(body=one, orelse=other):
            return _first([one, other], scope, depth)
        case ast.NamedExpr(value=part):
            return refusal(part, scope, depth + 1)
        case ast.Call():
            return _of_call(value, scope, depth)
        case ast.Name() | ast.Attribute():
            return _of_name(value, scope, depth)
    return None


def _first(parts: Iterable[ast.expr], scope: Scope, depth: int) -> Refusal | None:
    found = (refusal(part, scope, depth + 1) for part in parts)
    return next((one for one in found if one), None)


def _of_call(call: ast.Call, scope: Scope, depth: int) -> Refusal | None:
    function = call.func
    if isinstance(function, ast.Name) and not scope.find(function.id):
        name = function.id if not _is_bound(function.id, scope) else ""
        return CALLS.get(name)
    if isinstance(function, ast.Attribute) and function.attr in VIEWS and not call.args:
        if _is_dict(function.value, scope):
            return Refusal(f"a view of a dict (.{function.attr}())", AS_LIST)
        return None
    if made := _class(function, scope):
        if _is_plain(made, scope):
            return Refusal(f"an object of the class {made.name}", VALUES)
        return None
    return CALLS.get(scope.path(function))


def _is_bound(name: str, scope: Scope | None) -> bool:
    """Whether somebody gave the builtin's name another meaning."""
    while scope:
        if name in scope.bound:
            return True
        scope = scope.outer
    return False


def _is_dict(value: ast.expr, scope: Scope) -> bool:
    if isinstance(value, ast.Name) and (found := scope.find(value.id)):
        binding, where = found
        node = binding.node
        # A further name may lead back to this one.
        return (
            isinstance(node, ast.expr) and not isinstance(node, ast.Name) and _is_dict(node, where)
        )
    if isinstance(value, ast.Call):
        name = value.func.id if isinstance(value.func, ast.Name) else scope.path(value.func)
        return name in ("dict", "frappe._dict")
    return isinstance(value, (ast.Dict, ast.DictComp))


def _of_name(value: ast.Name | ast.Attribute, scope: Scope, depth: int) -> Refusal | None:
    if found := PATHS.get(scope.path(value)):
        return found
    if isinstance(value, ast.Attribute):
        return _of_attribute(value, scope)
    if is_self(value, scope):
        return _of_self(scope)
    if not (known := scope.find(value.id)):
        return None
    binding, where = known
    return _of_binding(binding, where, depth)


def _of_binding(binding: Binding, where: Scope, depth: int) -> Refusal | None:
    if binding.kind == "value" and isinstance(binding.node, ast.expr):
        return refusal(binding.node, where, depth + 1)
    if binding.kind == "function":
        return NESTED if isinstance(where.node, Function) else FUNCTION
    return {"class": A_CLASS, "module": MODULE, "exception": EXCEPTION}.get(binding.kind)


def _of_attribute(value: ast.Attribute, scope: Scope) -> Refusal | None:
    if isinstance(value.value, ast.Name) and is_self(value.value, scope):
        return BOUND if _own_method(value, scope) else None
    owner = _class(value.value, scope)
    if owner and {scope.path(base) for base in owner.bases} & ENUMS:
        is_member = any(
            isinstance(one, ast.Assign)
            and [target.id for target in one.targets if isinstance(target, ast.Name)]
            == [value.attr]
            for one in owner.body
        )
        return ENUM if is_member else None
    return None


def _class(value: ast.expr, scope: Scope) -> ast.ClassDef | None:
    """The class of this module that the name means."""
    if isinstance(value, ast.Name) and (found := scope.find(value.id)):
        node = found[0].node
        return node if isinstance(node, ast.ClassDef) else None
    return None


def _is_plain(made: ast.ClassDef, scope: Scope, depth: int = 0) -> bool:
    """Whether its objects are surely no documents, and nothing else that travels."""
    if depth > DEPTH or made.keywords or not _decorators(made) <= DATACLASSES:
        return False
    for base in made.bases:
        own = _class(base, scope)
        plain = _is_plain(own, scope, depth + 1) if own else _adds_nothing(base, scope)
        if own is made or not plain:
            return False
    return True


def _is_no_mixin(made: ast.ClassDef) -> bool:
    """What has no ``__init__`` may be a part of a document's class elsewhere."""
    return any(isinstance(one, Function) and one.name == "__init__" for one in made.body) or bool(
        _decorators(made)
    )


def _adds_nothing(base: ast.expr, scope: Scope) -> bool:
    if isinstance(base, ast.Name) and base.id in ("object", "Exception"):
        return not _is_bound(base.id, scope)
    return scope.path(base) in PLAIN | ENUMS


# --- self, and what hangs on it


def is_self(value: ast.expr, scope: Scope) -> bool:
    """Whether the name is the first parameter of the method around it."""
    if not isinstance(value, ast.Name) or not (found := scope.method_of):
        return False
    method = found[1]
    first = [*method.args.posonlyargs, *method.args.args][:1]
    bound = scope.find(value.id)
    return (
        [one.arg for one in first] == [value.id]
        and "staticmethod" not in _decorators(method)
        and bound is not None
        and bound[1].node is method
    )


def _of_self(scope: Scope) -> Refusal | None:
    owner, method = scope.method_of or (None, None)
    if owner is None or method is None:
        return None
    if "classmethod" in _decorators(method):
        return A_CLASS
    if _is_plain(owner, scope) and _is_no_mixin(owner):
        return Refusal(f"an object of the class {owner.name}, which is no document", VALUES)
    return None


def _decorators(of: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    return {ast.unparse(one) for one in of.decorator_list}


def _own_method(value: ast.Attribute, scope: Scope) -> bool:
    """Whether ``self.name`` is a method that its own class defines, and no property."""
    owner = (scope.method_of or (None,))[0]
    found = [
        one for one in (owner.body if owner else ())
        if isinstance(one, Function) and one.name == value.attr
    ]  # fmt: skip
    return len(found) == 1 and not found[0].decorator_list


def unreachable(method: ast.expr, scope: Scope) -> Refusal | None:
    """Why no worker would find that method; None where one may."""
    match method:
        case ast.Lambda():
            return Refusal("a lambda", TOP)
        case ast.Call(func=function) if scope.path(function) == "functools.partial":
            return CALLS["functools.partial"]
        case ast.Name() if found := scope.find(method.id):
            binding, where = found
            if binding.kind == "function":
                return NESTED if isinstance(where.node, Function) else None
            if binding.kind == "value" and isinstance(binding.node, (ast.Lambda, ast.Call)):
                return unreachable(binding.node, where)
        case ast.Attribute() if is_self(method.value, scope) and _own_method(method, scope):
            found_self = _of_self(scope)
            if found_self and found_self != A_CLASS:
                return Refusal(f"a method of {found_self.what}", TOP)
    return None
