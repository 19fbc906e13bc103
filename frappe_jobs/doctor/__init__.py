"""A check-up of a bench: what is wrong, what that does, what cures it.

Nothing is printed here.  ``checkup`` asks, quickly even if something is down; each other module
turns what was seen of one subject into findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from frappe_jobs.doctor.checkup import Checkup, Parts
from frappe_jobs.doctor.mending import mended
from frappe_jobs.texts.finding import Finding

LEVELS = ("error", "warning", "ok")


def examine(
    parts: Parts, sites: Sequence[str] | None = None, *, fix: bool = False
) -> list[Finding]:
    """The findings about the bench and these sites (all unless named), the worst first.

    With ``fix`` what can be mended without risk to any job is mended, and the finding says so.
    Raises nothing: what cannot be checked is a finding.
    """
    found = Checkup(parts, sites).findings()
    return worst_first(mended(found) if fix else found)


def examine_switch(parts: Parts) -> list[Finding]:
    """What is wrong between RQ and Celery on a Frappe bench, the worst first."""
    return worst_first(Checkup(parts).between_rq_and_celery())


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then what is well; within each the order stays."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))
