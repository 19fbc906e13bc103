"""Frappe's own Scheduled Job Types, for the scheduler: each call opens the site."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from frappe_jobs.errors import DatabaseUnavailable
from frappe_jobs.frappe_bench.host import joined
from frappe_jobs.frappe_bench.host.reading import Read
from frappe_jobs.frappe_bench.schedule import SiteSchedule, scheduled_call
from frappe_jobs.host.schedule_records import JobType, ScheduledCall, ScheduledJob, ScheduleRecords

#: Seconds until the scheduler asks a site again that could not be read.
AWAY = 60.0


class BenchScheduleRecords(ScheduleRecords):
    """The records of the sites' own doctypes, and what their apps' hooks say."""

    def __init__(self, read: Read) -> None:
        self._read, self._schedule = read, SiteSchedule()
        #: Sites that could not be read: until when (monotonic clock) they are not asked, and why.
        self._away: dict[str, tuple[float, str]] = {}

    def inactive(self, site: str) -> str | None:
        if joined.is_a_tests(site):  # Frappe's test runner turns its scheduler off
            return None
        until, reason = self._away.get(site, (0.0, ""))
        if time.monotonic() < until:  # each try would delay the other sites' jobs
            return reason
        try:
            return self._read(site, self._schedule.inactive)
        except DatabaseUnavailable as error:
            self._away[site] = time.monotonic() + AWAY, str(error)
            return str(error)

    def time_zone(self, site: str) -> str | None:
        return self._read(site, self._schedule.time_zone)

    def scheduled_call(self, name: str, method: str, due: float) -> ScheduledCall:
        return scheduled_call(name, method)

    def scheduler_events(self, site: str) -> Mapping[str, Any]:
        return self._read(site, self._schedule.events)

    def job_types(self, site: str) -> list[JobType]:
        return self._read(site, self._schedule.job_types)

    def change_job_types(
        self,
        site: str,
        add: Sequence[ScheduledJob],
        change: Mapping[str, ScheduledJob],
        remove: Sequence[str],
    ) -> list[JobType]:
        return self._read(site, lambda: self._schedule.change(add, change, remove))

    def set_last_executions(self, site: str, times: Mapping[str, datetime]) -> None:
        self._read(site, lambda: self._schedule.set_last_executions(times))

    def note_next_executions(self, site: str, times: Mapping[str, datetime | None]) -> None:
        """Does nothing: Frappe computes it whenever somebody looks."""

    def clear_logs(self, site: str, before: datetime) -> None:
        """Does nothing: Frappe's own Log Settings say how long they are kept."""
