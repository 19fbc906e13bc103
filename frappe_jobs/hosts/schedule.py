"""The schedule of a site without Frappe: its records read and changed, its jobs run."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import event, inspect, select, update
from sqlalchemy.orm import object_session

from frappe_jobs.errors import MethodNotFound
from frappe_jobs.hosts.after_commit import AfterCommit
from frappe_jobs.hosts.base import JobType
from frappe_jobs.hosts.models import (
    ScheduledJobLog,
    ScheduledJobType,
    SchedulerEvent,
    make_tables,
)
from frappe_jobs.hosts.session import StandaloneSession, current, require_current
from frappe_jobs.scheduler_events import ScheduledJob

#: The hook that gives a Scheduler Event without a method one, by its doctype.
AGAINST = "scheduled_against"

Resolve = Callable[[str, str], Callable[..., Any]]
Table = Callable[[str, str], Mapping[str, str]]


class SiteSchedule:
    """What the scheduler and its jobs do on the open site."""

    def __init__(self, method: Resolve, table: Table) -> None:
        self._method, self._table = method, table

    def job_types(self) -> list[JobType]:
        """The open site's records; none where it has no table yet."""
        session = require_current()
        if not inspect(session.db.connection()).has_table(ScheduledJobType.__tablename__):
            return []
        events = {one.name: one for one in session.db.scalars(select(SchedulerEvent))}
        against = self._table(AGAINST, session.site)
        return [
            _job_type(one, events.get(one.scheduler_event), against)
            for one in session.db.scalars(select(ScheduledJobType))
        ]

    def change(self, add: Sequence[ScheduledJob], remove: Sequence[str]) -> None:
        """Add and remove records; their tables are made if need be."""
        db = require_current().db
        make_tables(db)
        for name in remove:
            db.get_one(ScheduledJobType, name).delete()
        db.add_all(
            ScheduledJobType(
                method=job.method, frequency=job.frequency, cron_format=job.cron_format
            )
            for job in add
        )

    # --- as jobs

    def run(self, job_type: str) -> Any:
        """Run that type's method, and note when; what ``frappe_jobs.run_scheduled_job`` does.

        Its log, if it has one, is there from the beginning, and ends as Complete or Failed.
        """
        session = require_current()
        record = session.db.get(ScheduledJobType, job_type)
        if record is None:
            raise MethodNotFound(f"Scheduled Job Type {job_type!r} of {session.site} is gone.")
        of_event = session.db.get(SchedulerEvent, record.scheduler_event)
        against = self._table(AGAINST, session.site)
        path, create_log = _job_type(record, of_event, against).method, record.create_log
        session.db.execute(
            update(ScheduledJobType).filter_by(name=job_type).values(last_execution=_now())
        )
        log = _begin_log(session, job_type) if create_log else None
        session.commit()
        begun = time.monotonic()
        try:
            result = self._method(path, session.site)()
        except Exception:
            session.rollback()
            _end_log(session, log, "Failed", time.monotonic() - begun, traceback.format_exc())
            session.commit()
            raise
        _end_log(session, log, "Complete", time.monotonic() - begun)
        return result

    def note_failure(self, job: Any, _connection: Any, _type: Any, value: Any, _tb: Any) -> None:
        """End the log of a run whose process was killed, as nobody else did."""
        session = require_current()
        open_log = select(ScheduledJobLog.name).filter_by(
            scheduled_job_type=job.kwargs["job_type"], status="Scheduled"
        )
        for name in session.db.scalars(open_log).all():
            _end_log(session, name, "Failed", None, str(value))


def _job_type(
    record: ScheduledJobType, of_event: SchedulerEvent | None, against: Mapping[str, str]
) -> JobType:
    method = record.method
    if of_event and not method:
        method = of_event.method or against.get(of_event.scheduled_against, "")
    return JobType(
        name=record.name, method=method, frequency=record.frequency,
        cron_format=record.cron_format, queue=record.queue, stopped=record.stopped,
        has_event=bool(record.scheduler_event), creation=record.creation,
        last_execution=record.last_execution,
    )  # fmt: skip


@dataclass(frozen=True)
class Changed:
    """Tells that a site's schedule has changed; equal to another one of the same site."""

    tell: Callable[[str], None]
    site: str

    def __call__(self) -> None:
        self.tell(self.site)


def _note_change(_mapper: object, _connection: object, record: Any) -> None:
    session, db = current(), object_session(record)
    if session and db:
        AfterCommit.of(db).add_once(Changed(session.schedule_changed, session.site))


for _kind in (ScheduledJobType, SchedulerEvent):
    for _moment in ("after_insert", "after_update", "after_delete"):
        event.listen(_kind, _moment, _note_change)


def _begin_log(session: StandaloneSession, job_type: str) -> str:
    log = ScheduledJobLog(scheduled_job_type=job_type)
    session.db.add(log)
    session.db.flush()
    return log.name


def _end_log(
    session: StandaloneSession,
    name: str | None,
    status: str,
    duration: float | None,
    details: str = "",
) -> None:
    if name is not None:
        values = {"status": status, "duration": duration, "details": details}
        session.db.execute(update(ScheduledJobLog).filter_by(name=name).values(values))


def _now() -> datetime:
    return datetime.now(timezone.utc)
