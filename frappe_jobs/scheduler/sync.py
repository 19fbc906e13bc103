"""Bring the schedule in line: hooks → the sites' records → the scheduler's entries.

The records are the truth; the entries are made from them, and can be made anew at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from frappe_jobs.config import Settings
from frappe_jobs.cron import UTC
from frappe_jobs.errors import (
    BrokerUnavailable,
    ConfigError,
    FrappeJobsError,
    RecordNotWritten,
    ScheduleError,
    shortened,
)
from frappe_jobs.host.port import Host
from frappe_jobs.host.schedule_records import JobType, ScheduledJob
from frappe_jobs.scheduler import comparison
from frappe_jobs.scheduler.comparison import Differences, Wanted, is_ahead
from frappe_jobs.scheduler.entry import Entry, Stored
from frappe_jobs.scheduler.events import scheduled_jobs
from frappe_jobs.scheduler.frequency import Schedule, queue_of
from frappe_jobs.scheduler.timetable import Timetable
from frappe_jobs.texts.finding import Finding

logger = logging.getLogger(__name__)

Resolve = Callable[[str], Callable[..., Any]]

#: How often a migrate plans anew because another was quicker: each time, another has finished.
MIGRATE_TRIES = 10


@dataclass(frozen=True)
class Plan:
    """What a migrate of a site does to its Scheduled Job Types."""

    site: str
    add: Sequence[ScheduledJob]
    #: Their frequency or expression has changed; all else in the record stays.
    change: Sequence[tuple[JobType, ScheduledJob]]
    remove: Sequence[JobType]
    unchanged: Sequence[JobType]
    refused: Sequence[Finding]


class Sync:
    """Brings a bench's records and entries in line."""

    def __init__(self, settings: Settings, host: Host, timetable: Timetable) -> None:
        self._settings, self._host, self._timetable = settings, host, timetable

    def of(self, site: str) -> SiteSync:
        """The sync of that site."""
        return SiteSync(site, self._settings, self._host, self._timetable)

    def migrate(self, site: str) -> Plan:
        """Bring the site's records in line with the hooks, then its entries; gives what was done.

        Any number of processes may do it at once.  Raises DatabaseUnavailable, BrokerUnavailable.
        """
        of_site = self.of(site)
        for left in reversed(range(MIGRATE_TRIES)):
            plan = of_site.plan()
            try:
                of_site.apply(plan)
                break
            except RecordNotWritten:
                if not left:
                    raise
        return plan

    def compare(
        self, sites: Iterable[str] | None = None, *, now: float | None = None
    ) -> Mapping[str, str]:
        """Bring the entries of these sites (all unless named) in line with their records.

        ``now`` is the time by Redis's clock unless given.

        A site that cannot be read keeps its entries, a site that is gone loses them.  Gives the
        sites that could not be compared, and why.  Raises BrokerUnavailable.
        """
        if sites is None:
            sites = self._host.sites()
            for site in self._timetable.sites().difference(sites):
                self.of(site).forget()
        failed: dict[str, str] = {}
        for site in sites:
            try:
                self.of(site).compare(now)
            except BrokerUnavailable:
                raise
            except FrappeJobsError as error:
                failed[site] = str(error)
                logger.error("the schedule of %s stays as it is: %s", site, error)
            except Exception as error:  # its database's or apps': the other sites are compared
                failed[site] = f"{type(error).__name__}: {error}"
                known = self._host.is_conflict(error) or self._host.is_out_of_reach(error)
                logger.error(
                    "the schedule of %s stays as it is: %s", site, shortened(str(error)),
                    exc_info=not known,
                )  # fmt: skip
        return failed


class SiteSync:
    """Brings a site's records and entries in line."""

    def __init__(self, site: str, settings: Settings, host: Host, timetable: Timetable) -> None:
        self._site, self._settings = site, settings
        self._host, self._timetable = host, timetable

    def plan(self, types: Iterable[JobType] | None = None) -> Plan:
        """What a migrate would do; nothing is changed.  Raises DatabaseUnavailable.

        ``types`` are the site's types, if they were already read.
        """
        # With the site open: some modules use its database while they are imported.
        return self._host.read(self._site, lambda: self._plan(types))

    def _plan(self, types: Iterable[JobType] | None) -> Plan:
        site = self._site
        jobs, refused = scheduled_jobs(self._host.schedule.scheduler_events(site))
        resolve = self._host.methods.resolver(site)
        findings = [*refused, *self._zone_findings()]
        wanted: dict[tuple[str, str, str], ScheduledJob] = {}
        for job in jobs:
            try:
                resolve(job.method)
            except FrappeJobsError as error:
                findings.append(_not_scheduled(job, error, "Mend the path in its hooks.py."))
                continue
            wanted[job.method, job.frequency, job.cron_format] = job
            try:
                schedule_of(job, site, self._settings.scheduler_interval)
            except ConfigError as error:  # its record may stay
                cure = "It will be scheduled once that is mended."
                findings.append(_not_scheduled(job, error, cure))
        types = self._host.schedule.job_types(site) if types is None else types
        present = [record for record in types if not record.has_event]
        kept = {(record.method, record.frequency, record.cron_format): record for record in present}
        add = [job for key, job in wanted.items() if key not in kept]
        remove = [record for key, record in kept.items() if key not in wanted]
        change = _same_job(remove, add)
        return Plan(
            site,
            add=[job for job in add if job not in change.values()],
            change=[(record, change[record.name]) for record in remove if record.name in change],
            remove=[record for record in remove if record.name not in change],
            unchanged=[record for key, record in kept.items() if key in wanted],
            refused=findings,
        )

    def _zone_findings(self) -> list[Finding]:
        try:
            zone_of(self._settings, self._site)
        except ConfigError as error:
            return [Finding("error", str(error), "UTC is used until then.")]
        return []

    def apply(self, plan: Plan) -> None:
        """Change the site's records as planned, then its entries.

        Raises DatabaseUnavailable, BrokerUnavailable, and RecordNotWritten if the records have
        changed since the plan: then nothing was changed.
        """
        ticket = self._timetable.ticket(self._site)
        names = [record.name for record in plan.remove]
        change = {record.name: job for record, job in plan.change}
        types = self._host.schedule.change_job_types(self._site, plan.add, change, names)
        if not self._bring_in_line(types, ticket):
            # A process with a later ticket may have read the records before this was committed.
            self.compare()

    def compare(self, now: float | None = None) -> None:
        """Bring the entries in line with the records; raises what reading the records raises."""
        ticket = self._timetable.ticket(self._site)
        self._bring_in_line(self._host.schedule.job_types(self._site), ticket, now)

    def forget(self) -> None:
        """Remove all entries.  Raises BrokerUnavailable."""
        ticket = self._timetable.ticket(self._site)
        self._timetable.put(self._site, ticket, [*self._timetable.stored(self._site)], [])

    def differences(self, wanted: Wanted) -> Differences:
        """What ``compare`` would mend; nothing is changed.  Raises BrokerUnavailable."""
        stored = self._timetable.stored(self._site)
        return comparison.compare(wanted, stored, self._timetable.now())[0]

    def _bring_in_line(
        self, types: Sequence[JobType], ticket: int, now: float | None = None
    ) -> bool:
        """False, and nothing is changed, if another process has a later ticket."""
        site = self._site
        now = self._timetable.now() if now is None else now
        present = self._timetable.stored(site)
        types = self._set_clocks_right(types, present, now)
        # With the site open: some modules use its database while they are imported.
        wanted, refused = self._host.read(site, lambda: self.wanted(types))
        for record, error in refused:
            name = shortened(record.method or record.name)
            logger.error("%s on %s is not scheduled: %s", name, site, error)
        differences, puts = comparison.compare(wanted, present, now)
        if not self._timetable.put(site, ticket, differences.left_over, puts):
            return False
        changed = {put.entry.name: put.due for put in puts}
        dues = {name: at for name, at in {**differences.due, **changed}.items() if name in wanted}
        self._note_next_times(types, dues, changed)
        return True

    def _set_clocks_right(
        self, types: Sequence[JobType], present: Mapping[str, Stored], now: float
    ) -> Sequence[JobType]:
        """Correct last executions that lie in the future, in the records too; gives the types.

        A clock that was ahead wrote them; the true time was about the due time queued last.
        """
        times: dict[str, datetime] = {}
        for record in types:
            if is_ahead(record.last_execution, now):
                queued = present[record.name].queued if record.name in present else None
                at = queued if queued is not None and queued <= now else now
                times[record.name] = datetime.fromtimestamp(at, UTC)
        if not times:
            return types
        logger.warning(
            "%s: %s scheduled jobs had their last execution in the future: a clock was ahead",
            self._site, len(times),
        )  # fmt: skip
        self._host.schedule.set_last_executions(self._site, times)
        return [
            replace(record, last_execution=times.get(record.name, record.last_execution))
            for record in types
        ]

    def _note_next_times(
        self, types: Sequence[JobType], dues: Mapping[str, float], changed: Iterable[str]
    ) -> None:
        """Write the due times into the records if they have changed, or are too late there."""
        wrong: dict[str, datetime | None] = {}
        for record in types:
            at = dues.get(record.name)
            due = None if at is None else datetime.fromtimestamp(at, UTC)
            noted = record.next_execution
            is_early = due is None or noted is None or noted > due
            if noted != due and (is_early or record.name in changed):
                wrong[record.name] = due
        if wrong:
            self._host.schedule.note_next_executions(self._site, wrong)

    def wanted(
        self, types: Iterable[JobType]
    ) -> tuple[Wanted, list[tuple[JobType, FrappeJobsError]]]:
        """What is to be scheduled, by name; and what cannot be, and why.

        Call it with the site open: some modules use its database while they are imported.
        """
        zone, resolve = self._zone(), self._host.methods.resolver(self._site)
        wanted: dict[str, tuple[Entry, JobType]] = {}
        refused = []
        for record in types:
            try:
                if not record.stopped:
                    wanted[record.name] = self._entry(record, zone, resolve), record
            except FrappeJobsError as error:
                refused.append((record, error))
            except Exception as error:  # SQL may have written anything into the record
                wrong = ScheduleError(f"{type(error).__name__}: {shortened(str(error))}")
                refused.append((record, wrong))
        return wanted, refused

    def entry(self, record: JobType) -> Entry:
        """The scheduler's entry for it; raises FrappeJobsError, which says why it cannot run."""

        def entry() -> Entry:
            return self._entry(record, self._zone(), self._host.methods.resolver(self._site))

        return self._host.read(self._site, entry)

    def next_times(self, record: JobType, count: int) -> list[datetime]:
        """Its next due times from now on, in the site's zone; raises as ``entry`` does."""
        entry, times = self.entry(record), [datetime.now(UTC)]
        while len(times) <= count:
            times.append(entry.next_run(times[-1]))
        return times[1:]

    def zone(self) -> ZoneInfo:
        """The site's time zone; UTC, with an error in the log, if it names none that exists."""
        return self._host.read(self._site, self._zone)

    def _entry(self, record: JobType, zone: ZoneInfo, resolve: Resolve) -> Entry:
        if record.fault:
            raise ScheduleError(f"its record cannot be read: {record.fault}")
        entry = entry_of(record, self._site, self._settings.scheduler_interval, zone)
        if not record.method:
            raise ScheduleError(
                "neither it nor its Scheduler Event names a method, and no app's hook "
                "'scheduled_against' has one for the event's doctype."
            )
        entry.check()  # what could not be read again must not be put into Redis
        if not record.is_script:
            resolve(record.method)
        return entry

    def _zone(self) -> ZoneInfo:
        try:
            return zone_of(self._settings, self._site, self._host.schedule.time_zone(self._site))
        except ConfigError as error:
            logger.error("%s UTC is used until then.", error)
            return ZoneInfo("UTC")


def schedule_of(job: ScheduledJob | JobType, site: str, interval: object) -> Schedule:
    """When it is due on that site; ``interval`` is the setting ``scheduler_interval``."""
    return Schedule.of(
        job.frequency, job.method, site, cron_format=job.cron_format, interval=interval,
        spreads_long=getattr(job, "spreads_long", True),
    )  # fmt: skip


def entry_of(record: JobType, site: str, interval: object, zone: ZoneInfo) -> Entry:
    """The scheduler's entry for it; raises ScheduleError, ConfigError.

    ``interval`` is the setting ``scheduler_interval``.
    """
    schedule = schedule_of(record, site, interval)
    queue = record.queue or queue_of(record.frequency)
    return Entry(site, record.name, record.method, queue, schedule, zone.key)


def zone_of(settings: Settings, site: str, name: str | None = None) -> ZoneInfo:
    """The zone of that name, else the site's ``time_zone``, else UTC; raises ConfigError."""
    name = name or settings.sites.config(site).get("time_zone") or "UTC"
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, TypeError, LookupError):
        raise ConfigError(
            f"Site {site!r}: there is no time zone {name!r}. Give 'time_zone' a name such as "
            "Europe/Berlin."
        ) from None


def _same_job(
    removed: Sequence[JobType], added: Sequence[ScheduledJob]
) -> Mapping[str, ScheduledJob]:
    """The new jobs by the names of the records whose methods they have: their schedule has changed.

    Left out where a method has several schedules: nobody can tell which replaces which.
    """
    return {
        record.name: new[0]
        for record in removed
        if len(new := [job for job in added if job.method == record.method]) == 1
        and sum(other.method == record.method for other in removed) == 1
    }


def _not_scheduled(job: ScheduledJob, error: FrappeJobsError, cure: str) -> Finding:
    what = f"App {job.app!r}: {job.method} ({job.frequency}) gets no entry: {error}"
    return Finding("error", what, cure)
