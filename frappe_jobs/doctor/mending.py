"""Findings that can be mended without risk to any job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.texts.finding import Finding


@dataclass(frozen=True)
class Mendable(Finding):
    """A finding, what mends it, and what to say afterwards."""

    mend: Callable[[], object] = lambda: None
    done: str = ""


def mended(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Mend what can be mended; such a finding then says what was done."""
    for finding in findings:
        yield _mended(finding) if isinstance(finding, Mendable) else finding


def _mended(finding: Mendable) -> Finding:
    try:
        finding.mend()
    except FrappeJobsError as error:
        return replace(finding, cure=f"It could not be mended: {error}")
    return Finding("ok", f"Mended: {finding.done}")
