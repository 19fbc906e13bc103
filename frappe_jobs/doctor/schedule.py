"""Whether a scheduler leads, which jobs are overdue, and which sites it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from frappe_jobs.config import Settings
from frappe_jobs.doctor.mending import Mendable
from frappe_jobs.doctor.sites import Sites
from frappe_jobs.doctor.text import SHOWN, duration, names, number, of_sites
from frappe_jobs.errors import shortened
from frappe_jobs.scheduler.queueing import INACTIVE
from frappe_jobs.scheduler.timetable import Sighting
from frappe_jobs.texts.finding import Finding, Level

#: For each way of being inactive: a warning if it may have been forgotten, and what ends it.
ENDED: Mapping[str, tuple[Level, str]] = {
    INACTIVE["pause_scheduler"]: ("warning", "frappe-jobs --site {} scheduler resume"),
    INACTIVE["disable_scheduler"]: ("ok", "frappe-jobs --site {} scheduler enable"),
    INACTIVE["maintenance_mode"]: ("warning", "frappe-jobs --site {} set-maintenance-mode off"),
}
#: For any other way.
BY_ITSELF: tuple[Level, str] = ("ok", "")


def check_scheduler(
    leader: str | None, last: Sighting | None, active: Sites, now: float
) -> Iterator[Finding]:
    """Which scheduler leads, or since when none does; ``now`` is by Redis's clock."""
    ago = duration(max(0.0, now - last.at)) if last else ""
    if leader:
        seen = f"; it looked {ago} ago" if last else ""
        yield Finding("ok", f"A scheduler leads: {leader}{seen}.")
        return
    what = "No scheduler has ever run"
    if last:
        what = f"No scheduler has run for {ago} (the last one was {last.token})"
    if active.scheduled:
        what = f"{what}, so none of {number(active.scheduled, 'scheduled job')} is queued."
        yield Finding("error", what, "Start one: frappe-jobs schedule.")
    else:
        yield Finding("ok", f"{what}; no scheduled job needs one.")


def check_overdue(settings: Settings, active: Sites, now: float) -> Iterator[Finding]:
    """Jobs that should have been queued long ago, though a scheduler leads."""
    overdue_after = 2 * settings.scheduler_lock + 60
    late: dict[str, str] = {}
    for site, report in active.reports.items():
        dues = report.differences.due.values() if report.differences else ()
        if overdue := [at for at in dues if now - at > overdue_after]:
            longest = duration(now - min(overdue))
            jobs = number(len(overdue), "scheduled job")
            late[site] = f"{jobs} overdue, though a scheduler leads; the first for {longest}."
    yield from of_sites(
        "error", late, "have scheduled jobs that are overdue, though a scheduler leads",
        lambda site: "See the scheduler's log; are queues full (max_queued_jobs)?",
    )  # fmt: skip


def check_inactive(found: Sites) -> Iterator[Finding]:
    """The sites whose scheduled jobs are not queued, and why."""
    by_reason: dict[str, list[str]] = {}
    for site, report in found.reports.items():
        if report.inactive:
            by_reason.setdefault(report.inactive, []).append(site)
    for reason, sites in by_reason.items():
        level, cure = ENDED.get(reason, BY_ITSELF)
        texts = dict.fromkeys(sites, f"{reason}: its scheduled jobs are not queued.")
        yield from of_sites(level, texts, f"are {reason}", cure.format)


def check_strangers(found: Mapping[str, str], mend: Callable[[], object]) -> Iterator[Finding]:
    """Keys of the schedule with values that no scheduler wrote."""
    for key, why in [*found.items()][:SHOWN]:
        what = f"The schedule has a key that no scheduler wrote: {shortened(key)}: {why}."
        done = f"{shortened(key)} is made anew."
        cure = "frappe-jobs doctor --fix; the scheduler does so by itself."
        yield Mendable("warning", what, cure, mend, done)
    if len(found) > SHOWN:
        yield Finding("warning", f"And {len(found) - SHOWN:,} more keys that no scheduler wrote.")


def check_strays(strays: Sequence[str], compare: Callable[[], object]) -> Iterator[Finding]:
    """Entries of sites that do not exist."""
    if strays:
        what = f"RedBeat has entries of sites that do not exist: {names(strays)}."
        done = f"the entries of sites that do not exist are gone: {names(strays)}."
        yield Mendable("warning", what, "frappe-jobs doctor --fix", compare, done)
