"""What a name means at a place in a module, as far as the source can tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["value", "function", "class", "module", "imported", "exception", "unknown"]
Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Binding:
    """What a statement makes of a name."""

    kind: Kind
    #: The value, the function or the class.
    node: ast.AST | None = None
    #: The dotted path of an import.
    path: str = ""


UNKNOWN = Binding("unknown")


@dataclass
class Scope:
    """The names of a module, a class, a function or a comprehension."""

    node: ast.AST
    outer: Scope | None = None
    #: The module's dotted name.
    module: str = ""
    is_package: bool = False
    bound: dict[str, list[Binding]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[Binding, Scope] | None:
        """Its meaning, and the scope that binds it; None if it has several meanings, or none."""
        scope: Scope | None = self
        while scope:
            # A class's names are not seen by its methods.
            if name in scope.bound and (scope is self or not isinstance(scope.node, ast.ClassDef)):
                found = scope.bound[name]
                return (found[0], scope) if len(found) == 1 else None
            scope = scope.outer
        return None

    def path(self, expression: ast.expr) -> str:
        """The dotted path that the expression leads to, by the module's imports; else empty."""
        if isinstance(expression, ast.Attribute):
            above = self.path(expression.value)
            return f"{above}.{expression.attr}" if above else ""
        if not isinstance(expression, ast.Name) or not (found := self.find(expression.id)):
            return ""
        binding, scope = found
        if binding.kind in ("module", "imported"):
            return binding.path
        at_top = binding.kind in ("function", "class") and not scope.outer
        return f"{scope.module}.{expression.id}" if at_top else ""

    @property
    def method_of(self) -> tuple[ast.ClassDef, ast.FunctionDef | ast.AsyncFunctionDef] | None:
        """The method that this scope is, or lies in, and its class: (class, method)."""
        scope: Scope | None = self
        while scope and scope.outer:
            if isinstance(scope.node, Function) and isinstance(scope.outer.node, ast.ClassDef):
                return scope.outer.node, scope.node
            scope = scope.outer
        return None


def inside(node: ast.AST, outer: Scope) -> Scope:
    """The scope that the function, class, lambda or comprehension opens."""
    scope = Scope(node, outer, outer.module, outer.is_package)
    _bind_all(node, scope)
    return scope


def module_scope(tree: ast.Module, module: str, *, is_package: bool) -> Scope:
    scope = Scope(tree, None, module, is_package)
    _bind_all(tree, scope)
    return scope


def _bind_all(node: ast.AST, scope: Scope) -> None:
    if isinstance(node, (*Function, ast.Lambda)):
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        for argument in every:
            if argument:
                _bind(scope, argument.arg, UNKNOWN)
    if isinstance(node, Comprehension):
        for generator in node.generators:
            _bind_target(scope, generator.target)
        return
    if isinstance(node, ast.Lambda):
        return
    for child in within(node):
        _bind_statement(scope, child)


def within(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of its body, but not those inside other functions and classes."""
    body = node.body if isinstance(node, (ast.Module, ast.ClassDef, *Function)) else []
    todo: list[ast.AST] = [*reversed(body)] if isinstance(body, list) else []
    while todo:
        child = todo.pop()
        yield child
        if not isinstance(child, (*Function, ast.ClassDef, ast.Lambda, *Comprehension)):
            todo.extend(reversed([*ast.iter_child_nodes(child)]))


def _bind_statement(scope: Scope, node: ast.AST) -> None:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            _bind(scope, name, Binding("function", node))
        case ast.ClassDef(name=name):
            _bind(scope, name, Binding("class", node))
        case ast.Import(names=names):
            for alias in names:
                path = alias.name if alias.asname else alias.name.partition(".")[0]
                _import(scope, alias.asname or path, Binding("module", node, path))
        case ast.ImportFrom(names=names):
            origin = imported_from(node, scope.module, is_package=scope.is_package)
            for alias in names:
                path = f"{origin}.{alias.name}"
                _import(scope, alias.asname or alias.name, Binding("imported", node, path))
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _bind_target(scope, target, value)
        case ast.AnnAssign(target=target, value=value):
            _bind_target(scope, target, value)
        case ast.NamedExpr(target=target, value=value):
            _bind_target(scope, target, value)
        case ast.AugAssign(target=target) | ast.For(target=target) | ast.AsyncFor(target=target):
            _bind_target(scope, target)
        case ast.withitem(optional_vars=ast.expr() as target, context_expr=value):
            # Only of open() it is known what the context manager gives.
            is_file = isinstance(value, ast.Call) and ast.unparse(value.func) == "open"
            _bind_target(scope, target, value if is_file else None)
        case ast.ExceptHandler(name=str(name)):
            _bind(scope, name, Binding("exception"))
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            for name in names:
                _bind(scope, name, UNKNOWN)
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            _bind(scope, name, UNKNOWN)
        case ast.MatchMapping(rest=str(name)):
            _bind(scope, name, UNKNOWN)


def _bind_target(scope: Scope, target: ast.expr, value: ast.expr | None = None) -> None:
    if isinstance(target, ast.Name):
        _bind(scope, target.id, Binding("value", value) if value else UNKNOWN)
    elif isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            _bind_target(scope, part)
    elif isinstance(target, ast.Starred):
        _bind_target(scope, target.value)


def _import(scope: Scope, name: str, binding: Binding) -> None:
    """A second import of the same name may mean the same: ``import a.b``, ``import a.c``."""
    if binding.path not in [other.path for other in scope.bound.get(name, ())]:
        _bind(scope, name, binding)


def _bind(scope: Scope, name: str, binding: Binding) -> None:
    scope.bound.setdefault(name, []).append(binding)


def imported_from(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """The dotted name of the module that it imports from, also for a relative import."""
    if not node.level:
        return node.module or ""
    up = node.level - is_package
    parts = module.split(".")
    above = parts[: len(parts) - up] if up else parts
    return ".".join([*above, *([node.module] if node.module else [])])
