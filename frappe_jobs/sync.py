"""The schedule in line with what is wanted: hooks → the sites' records → the scheduler's entries.

The records are the truth.  The entries are derived from them, so they can be made anew at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from frappe_jobs.config import Settings
from frappe_jobs.cron import UTC
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.finding import Finding
from frappe_jobs.frequency import Schedule
from frappe_jobs.hosts.base import Host, JobType
from frappe_jobs.ledger.timetable import Entry, Timetable
from frappe_jobs.scheduler_events import ScheduledJob, scheduled_jobs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a migrate of a site does to its Scheduled Job Types."""

    site: str
    add: Sequence[ScheduledJob]
    remove: Sequence[JobType]
    unchanged: Sequence[JobType]
    refused: Sequence[Finding]


class Sync:
    """Brings a bench's schedule in line."""

    def __init__(self, settings: Settings, host: Host, timetable: Timetable) -> None:
        self._settings, self._host, self._timetable = settings, host, timetable

    def plan(self, site: str) -> Plan:
        """What a migrate would do; nothing is changed.  Raises DatabaseUnavailable."""
        jobs, refused = scheduled_jobs(self._host.scheduler_events(site))
        wanted: dict[tuple[str, str, str], ScheduledJob] = {}
        for job in jobs:
            try:
                self._host.method(job.method, site)
            except FrappeJobsError as error:
                what = f"App {job.app!r}: {job.method} ({job.frequency}) gets no entry: {error}"
                refused = [*refused, Finding("error", what, "Mend the path in its hooks.py.")]
            else:
                wanted[job.method, job.frequency, job.cron_format] = job
        present = [one for one in self._host.job_types(site) if not one.has_event]
        kept = {(one.method, one.frequency, one.cron_format): one for one in present}
        return Plan(
            site,
            add=[job for key, job in wanted.items() if key not in kept],
            remove=[one for key, one in kept.items() if key not in wanted],
            unchanged=[one for key, one in kept.items() if key in wanted],
            refused=refused,
        )

    def apply(self, plan: Plan) -> None:
        """Change the site's records as planned, then its entries.

        Raises DatabaseUnavailable, BrokerUnavailable.
        """
        self._host.change_job_types(plan.site, plan.add, [one.name for one in plan.remove])
        self.compare([plan.site])

    def compare(self, sites: Iterable[str] | None = None) -> None:
        """Bring the entries of these sites, of all unless named, in line with their records.

        A site whose database is away keeps its entries.  Raises BrokerUnavailable.
        """
        for site in self._host.sites() if sites is None else sites:
            try:
                types = self._host.job_types(site)
            except FrappeJobsError as error:
                logger.error("the schedule of %s stays as it is: %s", site, error)
                continue
            self._compare(site, types)

    def _compare(self, site: str, types: Sequence[JobType]) -> None:
        present = self._timetable.of_site(site)
        zone = self.zone(site)
        wanted = {
            one.name: (entry, one)
            for one in types
            if not one.stopped and (entry := self._entry(site, one, zone))
        }
        self._timetable.remove(site, [name for name in present if name not in wanted])
        changed = {
            entry: entry.next_run(record.last_execution or record.creation).timestamp()
            for name, (entry, record) in wanted.items()
            if not (known := present.get(name)) or known[0] != entry
        }
        self._timetable.put(changed)

    def entry(self, site: str, one: JobType) -> Entry | None:
        """What the scheduler knows of it; None, and an error is logged, if it cannot be run."""
        return self._entry(site, one, self.zone(site))

    def next_times(self, site: str, one: JobType, count: int) -> list[datetime]:
        """Its next due times from now on, in the site's zone; none if it cannot be run."""
        entry = self.entry(site, one)
        times = [datetime.now(UTC)]
        while entry and len(times) <= count:
            times.append(entry.next_run(times[-1]))
        return times[1:]

    def _entry(self, site: str, one: JobType, zone: str) -> Entry | None:
        interval = self._settings.scheduler_interval
        try:
            schedule = Schedule.of(
                one.frequency, one.method, site, cron_format=one.cron_format, interval=interval
            )
            if not one.is_script:
                self._host.method(one.method, site)
        except FrappeJobsError as error:
            logger.error("%s on %s is not scheduled: %s", one.method or one.name, site, error)
            return None
        return Entry(site, one.name, one.method, one.queue, schedule, zone)

    def zone(self, site: str) -> str:
        """The site's ``time_zone``, UTC where none is configured or none of that name exists."""
        name = self._host.time_zone(site) or self._settings.site_config(site).get("time_zone")
        name = name or "UTC"
        try:
            return ZoneInfo(name).key
        except (ValueError, OSError, TypeError, LookupError):
            logger.error("the time zone of %s is %r, which does not exist: UTC is used", site, name)
            return "UTC"
