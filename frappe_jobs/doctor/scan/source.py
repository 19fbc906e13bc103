"""The source of a file, read and never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from frappe_jobs.doctor.scan.calls import Problem, is_enqueue, problems
from frappe_jobs.doctor.scan.names import Comprehension, Function, Scope, inside, module_scope
from frappe_jobs.doctor.scan.past_the_seam import past_the_seam


@dataclass(frozen=True)
class Read:
    """What the source of a file shows."""

    calls: int = 0
    problems: tuple[Problem, ...] = ()
    #: Why it could not be read.
    fault: str = ""


def read_source(
    text: bytes | str, module: str, *, is_package: bool, on_bench: bool, with_rq: bool
) -> Read:
    """The enqueue calls of that module; ``with_rq``: also what uses RQ itself.  Raises nothing.

    ``module`` is its dotted name, for relative imports.  ``on_bench``: the calls are of Frappe's
    own enqueue.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the apps' strings
            tree = ast.parse(text)
        top = module_scope(tree, module, is_package=is_package)
        walk = _Walk(on_bench, with_rq)
        walk.visit_all(tree, top)
    except SyntaxError as error:
        return Read(fault=f"line {error.lineno or 1}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; nested too deep
        return Read(fault=str(error) or type(error).__name__)
    return Read(walk.calls, tuple(sorted(walk.found, key=lambda problem: problem.line)))


class _Walk:
    """Goes through a module, and knows the names at each place."""

    def __init__(self, on_bench: bool, with_rq: bool) -> None:
        self._on_bench, self._with_rq = on_bench, with_rq
        self.calls = 0
        self.found: dict[Problem, None] = {}

    def visit_all(self, tree: ast.Module, top: Scope) -> None:
        todo: list[tuple[ast.AST, Scope]] = [(child, top) for child in tree.body]
        while todo:
            node, scope = todo.pop()
            self._visit(node, scope)
            if _is_for_types(node):
                continue
            within = scope
            if isinstance(node, (*Function, ast.Lambda, ast.ClassDef, *Comprehension)):
                within = inside(node, scope)
            todo.extend((child, within) for child in ast.iter_child_nodes(node))

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Call) and is_enqueue(node, scope):
            self.calls += 1
            self._note(problems(node, scope, on_bench=self._on_bench))
        if self._with_rq:
            self._note(past_the_seam(node, scope))

    def _note(self, found: Iterator[Problem]) -> None:
        self.found |= dict.fromkeys(found)


def _is_for_types(node: ast.AST) -> bool:
    """``if TYPE_CHECKING:``, which nothing runs."""
    names = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    return isinstance(node, ast.If) and ast.unparse(node.test) in names
