"""The schedule in line with what is wanted: hooks → the sites' records → the scheduler's entries.

The records are the truth.  The entries are derived from them, so they can be made anew at any time.
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

#: Times that a migrate plans anew because another one was quicker; each time one of them has ended.
MIGRATE_TRIES = 10


@dataclass(frozen=True)
class Plan:
    """What a migrate of a site does to its Scheduled Job Types."""

    site: str
    add: Sequence[ScheduledJob]
    #: Of these the frequency or the expression is another one now; what else they say stays.
    change: Sequence[tuple[JobType, ScheduledJob]]
    remove: Sequence[JobType]
    unchanged: Sequence[JobType]
    refused: Sequence[Finding]


class Sync:
    """Brings a bench's schedule in line."""

    def __init__(self, settings: Settings, host: Host, timetable: Timetable) -> None:
        self._settings, self._host, self._timetable = settings, host, timetable

    def plan(self, site: str, types: Iterable[JobType] | None = None) -> Plan:
        """What a migrate would do; nothing is changed.  Raises DatabaseUnavailable.

        Who has read the site's types already can hand them in.
        """
        # In the open site: there are modules that ask its database while they are imported.
        return self._host.read(site, lambda: self._plan(site, types))

    def _plan(self, site: str, types: Iterable[JobType] | None) -> Plan:
        jobs, refused = scheduled_jobs(self._host.schedule.scheduler_events(site))
        resolve = self._host.methods.resolver(site)
        found = [*refused, *self._zone_findings(site)]
        wanted: dict[tuple[str, str, str], ScheduledJob] = {}
        for job in jobs:
            try:
                resolve(job.method)
            except FrappeJobsError as error:
                found.append(_not_scheduled(job, error, "Mend the path in its hooks.py."))
                continue
            wanted[job.method, job.frequency, job.cron_format] = job
            try:
                schedule_of(job, site, self._settings.scheduler_interval)
            except ConfigError as error:  # its record may stay
                found.append(
                    _not_scheduled(job, error, "It is in force as soon as that is mended.")
                )
        types = self._host.schedule.job_types(site) if types is None else types
        present = [one for one in types if not one.has_event]
        kept = {(one.method, one.frequency, one.cron_format): one for one in present}
        add = [job for key, job in wanted.items() if key not in kept]
        remove = [one for key, one in kept.items() if key not in wanted]
        change = _same_job(remove, add)
        return Plan(
            site,
            add=[job for job in add if job not in change.values()],
            change=[(one, change[one.name]) for one in remove if one.name in change],
            remove=[one for one in remove if one.name not in change],
            unchanged=[one for key, one in kept.items() if key in wanted],
            refused=found,
        )

    def _zone_findings(self, site: str) -> list[Finding]:
        try:
            zone_of(self._settings, site)
        except ConfigError as error:
            return [Finding("error", str(error), "UTC is used until then.")]
        return []

    def migrate(self, site: str) -> Plan:
        """Bring the site's records in line with the hooks, then its entries; gives what was done.

        Any number may do it at once.  Raises DatabaseUnavailable, BrokerUnavailable.
        """
        for left in reversed(range(MIGRATE_TRIES)):
            plan = self.plan(site)
            try:
                self.apply(plan)
                break
            except RecordNotWritten:
                if not left:
                    raise
        return plan

    def apply(self, plan: Plan) -> None:
        """Change the site's records as planned, then its entries.

        Raises DatabaseUnavailable, BrokerUnavailable, and RecordNotWritten if the records are not
        those of the plan any more: nothing was changed then.
        """
        ticket = self._timetable.ticket(plan.site)
        names = [one.name for one in plan.remove]
        change = {one.name: job for one, job in plan.change}
        types = self._host.schedule.change_job_types(plan.site, plan.add, change, names)
        if not self._bring_in_line(plan.site, types, ticket):
            # Whose ticket is later may have read the records before this was committed.
            self.compare([plan.site])

    def compare(self, sites: Iterable[str] | None = None) -> Mapping[str, str]:
        """Bring the entries of these sites, of all unless named, in line with their records.

        A site that cannot be read keeps its entries, one that is gone loses them.  Gives which
        sites could not be compared, and why.  Raises BrokerUnavailable.
        """
        if sites is None:
            sites = self._host.sites()
            for site in self._timetable.sites().difference(sites):
                self.forget(site)
        failed: dict[str, str] = {}
        for site in sites:
            ticket = self._timetable.ticket(site)
            try:
                self._bring_in_line(site, self._host.schedule.job_types(site), ticket)
            except BrokerUnavailable:
                raise
            except FrappeJobsError as error:
                failed[site] = str(error)
                logger.error("the schedule of %s stays as it is: %s", site, error)
            except Exception as error:  # of its database, or its apps: the others are compared
                failed[site] = f"{type(error).__name__}: {error}"
                known = self._host.is_conflict(error) or self._host.is_out_of_reach(error)
                logger.error(
                    "the schedule of %s stays as it is: %s", site, shortened(str(error)),
                    exc_info=not known,
                )  # fmt: skip
        return failed

    def forget(self, site: str) -> None:
        """Take all of the site's entries away.  Raises BrokerUnavailable."""
        ticket = self._timetable.ticket(site)
        self._timetable.put(site, ticket, [*self._timetable.stored(site)], [])

    def differences(self, site: str, wanted: Wanted) -> Differences:
        """What a comparison would mend; nothing is changed.  Raises BrokerUnavailable."""
        return comparison.compare(wanted, self._timetable.stored(site), self._timetable.now())[0]

    def _bring_in_line(self, site: str, types: Sequence[JobType], ticket: int) -> bool:
        """False, and nothing is changed, where somebody has a later ticket."""
        now, present = self._timetable.now(), self._timetable.stored(site)
        types = self._set_clocks_right(site, types, present, now)
        # In the open site: there are modules that ask its database while they are imported.
        wanted, refused = self._host.read(site, lambda: self.wanted(site, types))
        for one, error in refused:
            logger.error(
                "%s on %s is not scheduled: %s", shortened(one.method or one.name), site, error
            )
        found, puts = comparison.compare(wanted, present, now)
        if not self._timetable.put(site, ticket, found.left_over, puts):
            return False
        changed = {one.entry.name: one.due for one in puts}
        dues = {name: at for name, at in {**found.due, **changed}.items() if name in wanted}
        self._note_next_times(site, types, dues, changed)
        return True

    def _set_clocks_right(
        self, site: str, types: Sequence[JobType], present: Mapping[str, Stored], now: float
    ) -> Sequence[JobType]:
        """The same, the last executions that lie in the future changed, as their records are.

        A clock that was ahead has written them; it was about the due time that was queued last.
        """
        times: dict[str, datetime] = {}
        for one in types:
            if is_ahead(one.last_execution, now):
                queued = present[one.name].queued if one.name in present else None
                at = queued if queued is not None and queued <= now else now
                times[one.name] = datetime.fromtimestamp(at, UTC)
        if not times:
            return types
        logger.warning(
            "%s: %s scheduled jobs had their last execution in the future, by a clock that was "
            "ahead", site, len(times),
        )  # fmt: skip
        self._host.schedule.set_last_executions(site, times)
        return [
            replace(one, last_execution=times.get(one.name, one.last_execution)) for one in types
        ]

    def _note_next_times(
        self, site: str, types: Sequence[JobType], dues: Mapping[str, float], changed: Iterable[str]
    ) -> None:
        """Write them into the records where they have changed, or are told too late there."""
        wrong: dict[str, datetime | None] = {}
        for one in types:
            at = dues.get(one.name)
            due = None if at is None else datetime.fromtimestamp(at, UTC)
            noted = one.next_execution
            is_early = due is None or noted is None or noted > due
            if noted != due and (is_early or one.name in changed):
                wrong[one.name] = due
        if wrong:
            self._host.schedule.note_next_executions(site, wrong)

    def wanted(
        self, site: str, types: Iterable[JobType]
    ) -> tuple[Wanted, list[tuple[JobType, FrappeJobsError]]]:
        """What is to be scheduled, by name; and what cannot be, and why.

        To be asked with the site open: there are modules that use its database at their import.
        """
        zone, resolve = self._zone(site), self._host.methods.resolver(site)
        wanted: dict[str, tuple[Entry, JobType]] = {}
        refused = []
        for one in types:
            try:
                if not one.stopped:
                    wanted[one.name] = self._entry(site, one, zone, resolve), one
            except FrappeJobsError as error:
                refused.append((one, error))
            except Exception as error:  # of a record that somebody has written into by SQL
                wrong = ScheduleError(f"{type(error).__name__}: {shortened(str(error))}")
                refused.append((one, wrong))
        return wanted, refused

    def entry(self, site: str, one: JobType) -> Entry:
        """What the scheduler knows of it; raises FrappeJobsError that says why it cannot be run."""

        def entry() -> Entry:
            return self._entry(site, one, self._zone(site), self._host.methods.resolver(site))

        return self._host.read(site, entry)

    def next_times(self, site: str, one: JobType, count: int) -> list[datetime]:
        """Its next due times from now on, in the site's zone; raises as ``entry`` does."""
        entry, times = self.entry(site, one), [datetime.now(UTC)]
        while len(times) <= count:
            times.append(entry.next_run(times[-1]))
        return times[1:]

    def zone(self, site: str) -> ZoneInfo:
        """The site's time zone; UTC, and it is logged, where what names it names none."""
        return self._host.read(site, lambda: self._zone(site))

    def _entry(self, site: str, one: JobType, zone: ZoneInfo, resolve: Resolve) -> Entry:
        if one.fault:
            raise ScheduleError(f"its record cannot be read: {one.fault}")
        entry = entry_of(one, site, self._settings.scheduler_interval, zone)
        if not one.method:
            raise ScheduleError(
                "neither it nor its Scheduler Event names a method, and no app's hook "
                "'scheduled_against' has one for the event's doctype."
            )
        entry.check()  # what Redis could not give back must not be put there
        if not one.is_script:
            resolve(one.method)
        return entry

    def _zone(self, site: str) -> ZoneInfo:
        try:
            return zone_of(self._settings, site, self._host.schedule.time_zone(site))
        except ConfigError as error:
            logger.error("%s UTC is used until then.", error)
            return ZoneInfo("UTC")


def schedule_of(job: ScheduledJob | JobType, site: str, interval: object) -> Schedule:
    """When it is due on that site; ``interval`` is the setting ``scheduler_interval``."""
    return Schedule.of(
        job.frequency, job.method, site, cron_format=job.cron_format, interval=interval
    )


def entry_of(one: JobType, site: str, interval: object, zone: ZoneInfo) -> Entry:
    """What the scheduler knows of it; raises ScheduleError, ConfigError.

    ``interval`` is the setting ``scheduler_interval``.
    """
    schedule = schedule_of(one, site, interval)
    queue = one.queue or queue_of(one.frequency)
    return Entry(site, one.name, one.method, queue, schedule, zone.key)


def zone_of(settings: Settings, site: str, name: str | None = None) -> ZoneInfo:
    """That zone, else the site's ``time_zone``, else UTC; raises ConfigError."""
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
    """By their names those that are removed only because their method has another schedule now.

    Where a method has several, nobody can say which became which.
    """
    return {
        one.name: new[0]
        for one in removed
        if len(new := [job for job in added if job.method == one.method]) == 1
        and sum(other.method == one.method for other in removed) == 1
    }


def _not_scheduled(job: ScheduledJob, error: FrappeJobsError, cure: str) -> Finding:
    what = f"App {job.app!r}: {job.method} ({job.frequency}) gets no entry: {error}"
    return Finding("error", what, cure)
