"""A check-up of a bench: what is wrong, what that does, what cures it.

Nothing is printed here.  ``checkup`` asks, quickly also where something is down; each other room
has the findings of one subject, made from what was seen.
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
    """What is to be said of the bench and of these sites, all unless named; the worst first.

    With ``fix`` what can be mended with no risk to any job is mended, and the finding says so.
    Raises nothing: what cannot be looked at is a finding.
    """
    found = Checkup(parts, sites).findings()
    return worst_first(mended(found) if fix else found)


def examine_switch(parts: Parts) -> list[Finding]:
    """What is wrong between RQ and Celery on a Frappe bench, the worst first."""
    return worst_first(Checkup(parts).between_rq_and_celery())


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then what is well; each in the order in which it was found."""
    return sorted(findings, key=lambda one: LEVELS.index(one.level))
