"""The classes of a module, and whether their objects certainly are no documents."""

from __future__ import annotations

import ast

from frappe_jobs.doctor.scan.known import A_CLASS, VALUES, Obstacle
from frappe_jobs.doctor.scan.names import Function, Scope

ENUMS = {f"enum.{name}" for name in ("Enum", "IntEnum", "StrEnum", "Flag", "IntFlag")}
DATACLASSES = {"dataclass", "dataclasses.dataclass", "dataclass(frozen=True)"}
#: Parents of a class that add nothing by which its objects could travel.
PLAIN = {"abc.ABC", "typing.Protocol", "typing.NamedTuple"}


#: How far the parents of a class are followed.
DEPTH = 8


def class_of(value: ast.expr, scope: Scope) -> ast.ClassDef | None:
    """The class of this module that the name means."""
    if isinstance(value, ast.Name) and (found := scope.find(value.id)):
        node = found[0].node
        return node if isinstance(node, ast.ClassDef) else None
    return None


def is_plain(made: ast.ClassDef, scope: Scope, depth: int = 0) -> bool:
    """Whether its objects certainly are no documents, nor anything else that travels."""
    if depth > DEPTH or made.keywords or not _decorators(made) <= DATACLASSES:
        return False
    for base in made.bases:
        own = class_of(base, scope)
        plain = is_plain(own, scope, depth + 1) if own else _adds_nothing(base, scope)
        if own is made or not plain:
            return False
    return True


def _is_no_mixin(made: ast.ClassDef) -> bool:
    """A class without ``__init__`` may be a mixin of a document's class elsewhere."""
    return any(
        isinstance(statement, Function) and statement.name == "__init__" for statement in made.body
    ) or bool(_decorators(made))


def _adds_nothing(base: ast.expr, scope: Scope) -> bool:
    if isinstance(base, ast.Name) and base.id in ("object", "Exception"):
        return not is_bound(base.id, scope)
    return scope.path(base) in PLAIN | ENUMS


def is_bound(name: str, scope: Scope | None) -> bool:
    """Whether the module gives the builtin's name another meaning."""
    while scope:
        if name in scope.bound:
            return True
        scope = scope.outer
    return False


def is_self(value: ast.expr, scope: Scope) -> bool:
    """Whether the name is the first parameter of the method around it."""
    if not isinstance(value, ast.Name) or not (found := scope.method_of):
        return False
    method = found[1]
    first = [*method.args.posonlyargs, *method.args.args][:1]
    bound = scope.find(value.id)
    return (
        [argument.arg for argument in first] == [value.id]
        and "staticmethod" not in _decorators(method)
        and bound is not None
        and bound[1].node is method
    )


def refusal_of_self(scope: Scope) -> Obstacle | None:
    owner, method = scope.method_of or (None, None)
    if owner is None or method is None:
        return None
    if "classmethod" in _decorators(method):
        return A_CLASS
    if is_plain(owner, scope) and _is_no_mixin(owner):
        return Obstacle(f"an object of the class {owner.name}, which is no document", VALUES)
    return None


def _decorators(of: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    return {ast.unparse(decorator) for decorator in of.decorator_list}


def is_own_method(value: ast.Attribute, scope: Scope) -> bool:
    """Whether ``self.name`` is a method that its own class defines, and no property."""
    owner = (scope.method_of or (None,))[0]
    found = [
        statement for statement in (owner.body if owner else ())
        if isinstance(statement, Function) and statement.name == value.attr
    ]  # fmt: skip
    return len(found) == 1 and not found[0].decorator_list
