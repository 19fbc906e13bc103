"""Findings that can be mended with no risk to any job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.texts.finding import Finding


@dataclass(frozen=True)
class Mendable(Finding):
    """A finding, what mends it, and what is said afterwards."""

    mend: Callable[[], object] = lambda: None
    done: str = ""


def mended(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings, those that could be mended as what was done."""
    for one in findings:
        yield _mended(one) if isinstance(one, Mendable) else one


def _mended(one: Mendable) -> Finding:
    try:
        one.mend()
    except FrappeJobsError as error:
        return replace(one, cure=f"It could not be mended: {error}")
    return Finding("ok", f"Mended: {one.done}")
