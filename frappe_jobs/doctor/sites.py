"""Each site's part of the schedule: its database, hooks, records and entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock

from frappe_jobs.doctor.asking import SILENT_AFTER, ask_each
from frappe_jobs.doctor.mending import Mendable
from frappe_jobs.doctor.text import names, number, of_sites
from frappe_jobs.errors import DatabaseUnavailable, FrappeJobsError, shortened
from frappe_jobs.host.port import Host
from frappe_jobs.host.schedule_records import JobType
from frappe_jobs.host.session import Session
from frappe_jobs.outbox.relay import Look
from frappe_jobs.scheduler.comparison import Differences
from frappe_jobs.scheduler.events import scheduled_jobs
from frappe_jobs.scheduler.queueing import Scheduling
from frappe_jobs.scheduler.sync import Plan, SiteSync, Sync
from frappe_jobs.sites_folder import SITE_CONFIG
from frappe_jobs.texts.finding import Finding

#: Gives what is in the outbox of the open site.
LookIntoOutbox = Callable[[Session], Look]

#: Brings sites' entries in line; gives the sites that could not be, and why.
Compare = Callable[[Sequence[str]], Mapping[str, str]]

#: Seconds that a site whose database answers has to import its scheduled methods.
LONG = 60.0


@dataclass(frozen=True)
class SiteReport:
    """What was seen of a site."""

    #: Why no more was seen: its database or its apps cannot be used.
    fault: str = ""
    cure: str = ""
    #: What is wrong with its hooks and records, for each job.
    wrong: Sequence[Finding] = ()
    plan: Plan | None = None
    differences: Differences | None = None
    #: Its scheduled jobs that are not stopped.
    scheduled: int = 0
    #: Why its scheduled jobs are not queued; None if it is active.
    inactive: str | None = None
    #: What is in its outbox; None if nobody looked.
    outbox: Look | None = None


@dataclass(frozen=True)
class Sites:
    """What was seen of all sites."""

    reports: Mapping[str, SiteReport] = field(default_factory=dict)
    silent: Sequence[str] = ()

    @property
    def scheduled(self) -> int:
        """How many scheduled jobs they have that are not stopped."""
        return sum(report.scheduled for report in self.reports.values())

    @property
    def active(self) -> Sites:
        """The sites whose scheduled jobs are queued."""
        return Sites({site: report for site, report in self.reports.items() if not report.inactive})


def look_at_sites(
    sites: Sequence[str],
    host: Host,
    sync: Sync,
    scheduling: Scheduling,
    unsent: LookIntoOutbox | None,
    *,
    with_entries: bool,
) -> Sites:
    """Ask all sites; ``with_entries`` if the schedule's Redis can be read.

    ``unsent`` looks into the outbox of an open site; None if the records' Redis is away.
    """

    def reach(site: str) -> SiteReport | None:
        try:
            host.reach(site)
        except Exception as error:
            return _unusable(site, error)
        return None

    at = _At(host)

    def ask(site: str) -> SiteReport:
        try:
            inactive = scheduling.inactive(site)
            with host.session(site) as session:  # its configuration is read only once then
                report = _report(site, host, sync.of(site), at, with_entries)
                outbox = unsent(session) if unsent else None
            return replace(report, inactive=inactive, outbox=outbox)
        except Exception as error:  # the site's apps, or its database
            return _unusable(site, error)

    # The database gets a short time limit of its own: a slow import of its apps is not its fault.
    reached = ask_each(sites, reach)
    answers = ask_each([site for site in sites if reached.get(site, True) is None], ask, LONG)
    unusable = {site: report for site, report in reached.items() if report}
    late = {site: at.fault(site) for site in reached if site not in {*unusable, *answers}}
    known = unusable | answers | late
    reports = {site: known[site] for site in sites if site in known}
    return Sites(reports, [site for site in sites if site not in reports])


class _At:
    """Imports sites' methods, and knows which it is importing."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._method = ""
        self._lock = Lock()

    def import_methods(self, site: str, types: Sequence[JobType]) -> None:
        """Import the site's scheduled methods, one thread at a time; errors are found later."""
        jobs, _ = scheduled_jobs(self._host.schedule.scheduler_events(site))
        resolve = self._host.methods.resolver(site)
        named = [job.method for job in types if job.method and not job.is_script]
        with self._lock:
            for path in dict.fromkeys([*named, *(job.method for job in jobs)]):
                self._method = path
                try:
                    resolve(path)
                except Exception:
                    continue

    def fault(self, site: str) -> SiteReport:
        """The report of a site that has not answered."""
        what = f"it could not be checked within {LONG:.0f} s"
        if self._method:
            what += f": {self._method} was still being imported"
        return SiteReport(f"{what}.", "See what its apps' modules do while they are imported.")


def _unusable(site: str, error: Exception) -> SiteReport:
    if isinstance(error, DatabaseUnavailable):
        cure = f"Start its database, or correct its keys in {site}/{SITE_CONFIG}."
        return SiteReport(f"its jobs wait: {error}", cure)
    if isinstance(error, FrappeJobsError):
        return SiteReport(f"its jobs cannot run: {error}", "Mend what is named.")
    return SiteReport(f"its schedule cannot be read: {type(error).__name__}: {error}")


def _report(site: str, host: Host, sync: SiteSync, at: _At, with_entries: bool) -> SiteReport:
    types = host.schedule.job_types(site)
    at.import_methods(site, types)
    plan = sync.plan(types)
    wanted, refused = sync.wanted(types)
    told = " ".join(finding.what for finding in plan.refused)
    wrong = [
        _not_scheduled(site, job, error)
        for job, error in refused
        if not job.method or str(job.method) not in told
    ]
    return SiteReport(
        wrong=[*plan.refused, *wrong],
        plan=plan,
        differences=sync.differences(wanted) if with_entries else None,
        scheduled=sum(not job.stopped for job in types),
    )


def _not_scheduled(site: str, job: JobType, error: FrappeJobsError) -> Finding:
    what = f"the scheduled job {job.name} ({job.method or 'no method'}) is not queued: {error}"
    cure = f"Mend its path, or: frappe-jobs --site {site} scheduled-jobs stop {job.name}."
    return Finding("error", what, cure)


# --- the findings about them


def check_sites(found: Sites, compare: Compare) -> Iterator[Finding]:
    """The sites' databases, hooks, records and entries; ``compare`` mends their entries."""
    yield from _out_of_reach(found)
    yield from _wrong(found)
    yield from _to_migrate(found)
    yield from _differing(found, compare)
    yield from _in_order(found)


def _out_of_reach(found: Sites) -> Iterator[Finding]:
    away = {site: report.fault for site, report in found.reports.items() if report.fault}
    away |= {site: f"its database was silent for {SILENT_AFTER:.0f} s." for site in found.silent}
    cures = dict.fromkeys(
        found.silent, "See that it runs, and that no firewall swallows the packets to it."
    )
    cures |= {site: report.cure for site, report in found.reports.items()}
    yield from of_sites("error", away, "cannot be used", lambda site: cures.get(site, ""))


def _wrong(found: Sites) -> Iterator[Finding]:
    """One line for a wrong hook, which is wrong on each site that has the app."""
    sites: dict[Finding, list[str]] = {}
    for site, report in found.reports.items():
        for finding in report.wrong:
            sites.setdefault(finding, []).append(site)
    for finding, where in sites.items():
        yield Finding(finding.level, f"{names(where)}: {finding.what}", finding.cure)


def _to_migrate(found: Sites) -> Iterator[Finding]:
    todo: dict[str, str] = {}
    for site, report in found.reports.items():
        if plan := report.plan:
            counts = {"add": plan.add, "change": plan.change, "remove": plan.remove}
            said = ", ".join(f"{len(some)} to {verb}" for verb, some in counts.items() if some)
            if said:
                todo[site] = f"its records are not as its hooks say: {said}."
    yield from of_sites(
        "warning", todo, "have records that are not as their hooks say",
        lambda site: f"frappe-jobs --site {site} migrate",
    )  # fmt: skip


def _differing(found: Sites, compare: Compare) -> Iterator[Finding]:
    texts: dict[str, str] = {}
    for site, report in found.reports.items():
        if (found_there := report.differences) and (said := _said(found_there)):
            texts[site] = f"RedBeat's entries are not as its records say: {said}."
    for finding in of_sites(
        "warning", texts, "have entries that are not as their records say",
        lambda site: f"frappe-jobs --site {site} doctor --fix; the scheduler does so by itself.",
    ):  # fmt: skip
        sites = [*texts] if len(texts) != 1 else [finding.what.partition(":")[0]]
        done = f"RedBeat's entries are as the records say: {names(sites)}."
        yield Mendable(
            finding.level, finding.what, finding.cure, partial(_mend, compare, sites), done
        )


def _mend(compare: Compare, sites: Sequence[str]) -> None:
    if failed := compare(sites):
        site, why = next(iter(failed.items()))
        raise FrappeJobsError(f"{site}: {why}")


def _said(differences: Differences) -> str:
    parts = {
        "missing": differences.missing, "changed": differences.changed,
        "left over": differences.left_over,
        "of a clock that was ahead": [*dict.fromkeys([*differences.ahead, *differences.ran_ahead])],
        "due at another time": differences.moved,
    }  # fmt: skip
    said = [f"{len(some)} {word}" for word, some in parts.items() if some]
    if differences.unreadable:
        name, why = next(iter(differences.unreadable.items()))
        said.append(f"{len(differences.unreadable)} not readable ({shortened(name)}: {why})")
    return ", ".join(said)


def _in_order(found: Sites) -> Iterator[Finding]:
    fine = [
        report for report in found.reports.values()
        if not report.fault and not report.wrong
        and not (report.plan and (report.plan.add or report.plan.change or report.plan.remove))
        and not (report.differences and _said(report.differences))
    ]  # fmt: skip
    if fine:
        jobs = number(sum(report.scheduled for report in fine), "scheduled job")
        entries = "hooks, records and entries" if fine[0].differences else "hooks and records"
        what = f"{number(len(fine), 'site')} with {jobs}: the databases answer; {entries} agree."
        yield Finding("ok", what)
