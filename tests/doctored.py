"""What tests share that look at a bench with something wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

#: What each of a bench's processes imports first: its clock is so many seconds ahead.
AHEAD = "import time; real = time.time; time.time = lambda: real() + {seconds}"


def one(findings: Iterable[Any], text: str) -> Any:
    """The only finding that says so."""
    (found,) = [finding for finding in findings if text in str(finding)]
    return found


def worst(findings: Iterable[Any]) -> list[tuple[str, str]]:
    """Level and text of those that are not ok."""
    return [(finding.level, finding.what) for finding in findings if finding.level != "ok"]


def clock_ahead(bench: Any, seconds: float) -> AbstractContextManager[None]:
    """The processes that the bench starts meanwhile have another clock."""
    return beginning_with(bench, AHEAD.format(seconds=seconds))


@contextmanager
def beginning_with(bench: Any, code: str) -> Iterator[None]:
    """The processes that the bench starts meanwhile run that first."""
    folder = bench.path / "first"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    bench.variables["PYTHONPATH"] = str(folder)
    bench.starts_cold = True
    try:
        yield
    finally:
        bench.starts_cold = False
        del bench.variables["PYTHONPATH"]
