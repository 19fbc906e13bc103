"""The enqueue calls in a module, and what in them will not work as a job."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from frappe_jobs.doctor.scan.names import Scope
from frappe_jobs.doctor.scan.travels import refusal, unreachable

ENQUEUE = {
    "frappe.enqueue",
    "frappe.utils.background_jobs.enqueue",
    "frappe_jobs.enqueue",
    "frappe_jobs.api.enqueue",
}
ENQUEUE_DOC = {f"{path}_doc" for path in ENQUEUE}
ENQUEUE_MANY = {"frappe_jobs.enqueue_many", "frappe_jobs.api.enqueue_many"}

#: Keywords of enqueue itself; all others are the method's.
OPTIONS = frozenset(
    "method queue timeout event is_async async job_name now enqueue_after_commit on_success"
    " on_failure at_front at_front_when_starved job_id deduplicate retry track_job debounce"
    " concurrency_key expires enqueue_at enqueue_in".split()
)
OF_DOCUMENT = frozenset(("doctype", "name"))
CALLBACKS = ("on_success", "on_failure")
#: Containers, which travel themselves; what is in them may not.
HOLDERS = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)


@dataclass(frozen=True)
class Problem:
    """A line, what is wrong there, and what to do."""

    line: int
    what: str
    cure: str


@dataclass(frozen=True)
class Item:
    """A job that the call would send."""

    #: The problem is reported at its line.
    node: ast.expr
    method: ast.expr | None
    keywords: Sequence[tuple[str, ast.expr]]


def is_enqueue(call: ast.Call, scope: Scope) -> bool:
    """Whether it sends jobs."""
    return scope.path(call.func) in ENQUEUE | ENQUEUE_DOC | ENQUEUE_MANY


def problems(call: ast.Call, scope: Scope, *, on_bench: bool) -> Iterator[Problem]:
    """What in that enqueue call will not work; on a bench any object's bound method may be sent."""
    name = ast.unparse(call.func)
    for item in _items(call, scope):
        yield from _of_item(item, name, scope, on_bench)


def _items(call: ast.Call, scope: Scope) -> Iterator[Item]:
    path = scope.path(call.func)
    if path in ENQUEUE_MANY:
        items = [keyword.value for keyword in call.keywords if keyword.arg == "items"]
        for given in [*call.args[:1], *items]:
            for part in _parts(given):
                pairs = _pairs(part)
                yield Item(part, dict(pairs).get("method"), pairs)
        return
    keywords = _keywords(call, scope)
    method = None
    if path in ENQUEUE and call.args and not isinstance(call.args[0], ast.Starred):
        method = call.args[0]
    elif path in ENQUEUE:
        method = dict(keywords).get("method")
    if path in ENQUEUE_DOC:
        keywords = [pair for pair in keywords if pair[0] not in OF_DOCUMENT]
    yield Item(call, method, keywords)


def _keywords(call: ast.Call, scope: Scope) -> list[tuple[str, ast.expr]]:
    found: list[tuple[str, ast.expr]] = []
    for keyword in call.keywords:
        if keyword.arg:
            found.append((keyword.arg, keyword.value))
        elif isinstance(keyword.value, ast.Dict):
            found += _pairs(keyword.value)
        elif isinstance(keyword.value, ast.Name) and (known := scope.find(keyword.value.id)):
            node = known[0].node
            # Names in a dict that was made in another scope may mean something else here.
            if isinstance(node, ast.Dict) and known[1] is scope:
                found += _pairs(node)
    return found


def _parts(given: ast.expr) -> list[ast.expr]:
    """The items of a literal list, or the item of a comprehension."""
    if isinstance(given, (ast.List, ast.Tuple)):
        return given.elts
    return [given.elt] if isinstance(given, (ast.ListComp, ast.GeneratorExp)) else []


def _pairs(given: ast.expr) -> list[tuple[str, ast.expr]]:
    if isinstance(given, ast.Dict):
        return [
            (str(key.value), value)
            for key, value in zip(given.keys, given.values, strict=True)
            if isinstance(key, ast.Constant)
        ]
    if isinstance(given, ast.Call) and ast.unparse(given.func) == "dict":
        return [(keyword.arg, keyword.value) for keyword in given.keywords if keyword.arg]
    return []


def _of_item(item: Item, name: str, scope: Scope, on_bench: bool) -> Iterator[Problem]:
    keywords = dict(item.keywords)
    if _is(keywords.get("now"), True) or any(
        _is(keywords.get(key), False) for key in ("is_async", "async")
    ):  # a plain call: nothing travels
        return
    for what, given in (
        ("the method", item.method),
        *((key, keywords.get(key)) for key in CALLBACKS),
    ):
        objects = on_bench and given is item.method
        if given and (found := unreachable(given, scope, objects=objects)):
            text = f"{name}: no worker would find {what}: it is {found.what}."
            yield Problem(given.lineno, text, found.cure)
    for key, value in item.keywords:
        if key not in OPTIONS and (found := refusal(value, scope)):
            verb = "holds" if isinstance(value, HOLDERS) else "is"
            text = f"{name}: the argument {key} cannot travel as JSON: it {verb} {found.what}."
            yield Problem(value.lineno, text, found.cure)


def _is(value: ast.expr | None, wanted: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted
