"""The schedule's records of a site without Frappe, for the scheduler: each call opens the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound

from frappe_jobs.errors import RecordNotWritten, TransactionConflict
from frappe_jobs.host.schedule_records import JobType, ScheduledJob, ScheduleRecords
from frappe_jobs.standalone.apps import Apps
from frappe_jobs.standalone.database import is_conflict
from frappe_jobs.standalone.schedule import SiteSchedule
from frappe_jobs.standalone.session import StandaloneSession


class SiteScheduleRecords(ScheduleRecords):
    """The records of a site's own database, and what its apps' hooks say."""

    def __init__(
        self,
        session: Callable[[str], AbstractContextManager[StandaloneSession]],
        schedule: SiteSchedule,
        apps: Apps,
    ) -> None:
        self._session, self._schedule, self._apps = session, schedule, apps

    def scheduler_events(self, site: str) -> Mapping[str, Any]:
        return self._apps.values("scheduler_events", site)

    def job_types(self, site: str) -> list[JobType]:
        with self._session(site):
            return self._schedule.job_types()

    def change_job_types(
        self,
        site: str,
        add: Sequence[ScheduledJob],
        change: Mapping[str, ScheduledJob],
        remove: Sequence[str],
    ) -> list[JobType]:
        try:
            with self._session(site) as opened:
                opened.schedule_changed = lambda site: None  # the caller knows
                return self._schedule.change(add, change, remove)
        except (DBAPIError, NoResultFound, TransactionConflict) as error:
            was_quicker = isinstance(error, (IntegrityError, NoResultFound))
            if not was_quicker and not is_conflict(error):
                raise
            what = f"The Scheduled Job Types of {site!r} were changed by another process just now."
            raise RecordNotWritten(what) from error

    def set_last_executions(self, site: str, times: Mapping[str, datetime]) -> None:
        with self._session(site):
            self._schedule.set_last_executions(times)

    def note_next_executions(self, site: str, times: Mapping[str, datetime | None]) -> None:
        with self._session(site):
            self._schedule.note_next_executions(times)

    def clear_logs(self, site: str, before: datetime) -> None:
        with self._session(site):
            self._schedule.clear_logs(before)
