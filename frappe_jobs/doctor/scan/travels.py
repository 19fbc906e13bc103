"""Why an argument will not travel as JSON, if the source shows that."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from frappe_jobs.doctor.scan.known import (
    A_CLASS,
    AS_LIST,
    BOUND,
    CALLS,
    ENUM,
    EXCEPTION,
    FUNCTION,
    MODULE,
    NESTED,
    PATHS,
    TOP,
    VALUES,
    VIEWS,
    Obstacle,
)
from frappe_jobs.doctor.scan.names import Binding, Function, Scope, inside
from frappe_jobs.doctor.scan.objects import (
    ENUMS,
    class_of,
    is_bound,
    is_own_method,
    is_plain,
    is_self,
    refusal_of_self,
)

#: How far a name is followed from value to value.
DEPTH = 8


def refusal(value: ast.expr, scope: Scope, depth: int = 0) -> Obstacle | None:
    """Why it will not travel; None if it will, or if that cannot be told without running it."""
    if depth > DEPTH:
        return None
    match value:
        case ast.Lambda():
            return Obstacle("a lambda", "Make it a function at the top of a module; send its path.")
        case ast.GeneratorExp():
            return Obstacle("a generator", AS_LIST)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            plain = [part for part in parts if not isinstance(part, ast.Starred)]
            return _first(plain, scope, depth)
        case ast.Dict(keys=keys, values=values):
            return _first([part for part in [*keys, *values] if part], scope, depth)
        case ast.ListComp(elt=part) | ast.SetComp(elt=part) | ast.DictComp(value=part):
            return refusal(part, inside(value, scope), depth + 1)
        case ast.IfExp(body=chosen, orelse=other):
            return _first([chosen, other], scope, depth)
        case ast.NamedExpr(value=part):
            return refusal(part, scope, depth + 1)
        case ast.Call():
            return _of_call(value, scope, depth)
        case ast.Name() | ast.Attribute():
            return _of_name(value, scope, depth)
    return None


def _first(parts: Iterable[ast.expr], scope: Scope, depth: int) -> Obstacle | None:
    found = (refusal(part, scope, depth + 1) for part in parts)
    return next((reason for reason in found if reason), None)


def _of_call(call: ast.Call, scope: Scope, depth: int) -> Obstacle | None:
    function = call.func
    if isinstance(function, ast.Name) and not scope.find(function.id):
        name = function.id if not is_bound(function.id, scope) else ""
        return CALLS.get(name)
    if isinstance(function, ast.Attribute) and function.attr in VIEWS and not call.args:
        if _is_dict(function.value, scope):
            return Obstacle(f"a view of a dict (.{function.attr}())", AS_LIST)
        return None
    if made := class_of(function, scope):
        if is_plain(made, scope):
            return Obstacle(f"an object of the class {made.name}", VALUES)
        return None
    return CALLS.get(scope.path(function))


def _is_dict(value: ast.expr, scope: Scope) -> bool:
    if isinstance(value, ast.Name) and (found := scope.find(value.id)):
        binding, where = found
        node = binding.node
        # Another name is not followed: it may lead back to this name.
        return (
            isinstance(node, ast.expr) and not isinstance(node, ast.Name) and _is_dict(node, where)
        )
    if isinstance(value, ast.Call):
        name = value.func.id if isinstance(value.func, ast.Name) else scope.path(value.func)
        return name in ("dict", "frappe._dict")
    return isinstance(value, (ast.Dict, ast.DictComp))


def _of_name(value: ast.Name | ast.Attribute, scope: Scope, depth: int) -> Obstacle | None:
    if found := PATHS.get(scope.path(value)):
        return found
    if isinstance(value, ast.Attribute):
        return _of_attribute(value, scope)
    if is_self(value, scope):
        return refusal_of_self(scope)
    if not (known := scope.find(value.id)):
        return None
    binding, where = known
    return _of_binding(binding, where, depth)


def _of_binding(binding: Binding, where: Scope, depth: int) -> Obstacle | None:
    if binding.kind == "value" and isinstance(binding.node, ast.expr):
        return refusal(binding.node, where, depth + 1)
    if binding.kind == "function":
        return NESTED if isinstance(where.node, Function) else FUNCTION
    return {"class": A_CLASS, "module": MODULE, "exception": EXCEPTION}.get(binding.kind)


def _of_attribute(value: ast.Attribute, scope: Scope) -> Obstacle | None:
    if isinstance(value.value, ast.Name) and is_self(value.value, scope):
        return BOUND if is_own_method(value, scope) else None
    owner = class_of(value.value, scope)
    if owner and {scope.path(base) for base in owner.bases} & ENUMS:
        is_member = any(
            isinstance(statement, ast.Assign)
            and [target.id for target in statement.targets if isinstance(target, ast.Name)]
            == [value.attr]
            for statement in owner.body
        )
        return ENUM if is_member else None
    return None


def unreachable(method: ast.expr, scope: Scope, *, objects: bool) -> Obstacle | None:
    """Why no worker would find that method; None if a worker may find it.

    ``objects``: a bound method is sent with its object, whatever that is.
    """
    match method:
        case ast.Lambda():
            return Obstacle("a lambda", TOP)
        case ast.Call(func=function) if scope.path(function) == "functools.partial":
            return CALLS["functools.partial"]
        case ast.Name() if found := scope.find(method.id):
            binding, where = found
            if binding.kind == "function":
                return NESTED if isinstance(where.node, Function) else None
            if binding.kind == "value" and isinstance(binding.node, (ast.Lambda, ast.Call)):
                return unreachable(binding.node, where, objects=objects)
        case ast.Attribute() if (
            not objects and is_self(method.value, scope) and is_own_method(method, scope)
        ):
            found_self = refusal_of_self(scope)
            if found_self and found_self != A_CLASS:
                return Obstacle(f"a method of {found_self.what}", TOP)
    return None
