"""The schedule of a site without Frappe: its records read and changed, its jobs run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import bindparam, case, delete, event, func, insert, or_, select, update
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.orm import object_session

from frappe_jobs.config import Settings
from frappe_jobs.current import current_job
from frappe_jobs.errors import ConfigError, FrappeJobsError, MethodNotFound, shortened
from frappe_jobs.host.schedule_records import AGAINST, JobType, ScheduledJob
from frappe_jobs.scheduler.frequency import queue_of
from frappe_jobs.scheduler.sync import entry_of, zone_of
from frappe_jobs.standalone.after_commit import AfterCommit
from frappe_jobs.standalone.models import (
    ScheduledJobLog,
    ScheduledJobType,
    SchedulerEvent,
    has_table,
    made_name,
)
from frappe_jobs.standalone.records import make_tables
from frappe_jobs.standalone.session import StandaloneSession, current, require_current
from frappe_jobs.standalone.sqlite import BLIND
from frappe_jobs.texts.error_text import bounded, safe, traceback_of

logger = logging.getLogger(__name__)

# Any: SQLAlchemy types a class's table as whatever may be selected from.
TYPES: Any = ScheduledJobType.__table__
EVENTS: Any = SchedulerEvent.__table__

#: The records as rows, which cost less than documents, with what their Scheduler Events say.
_OF_EVENT = EVENTS.c.method.label("event_method"), EVENTS.c.scheduled_against
_IS_ITS_EVENT = EVENTS.c.name == TYPES.c.scheduler_event
JOB_TYPES = select(*TYPES.columns, *_OF_EVENT).outerjoin(EVENTS, _IS_ITS_EVENT)
READ = (ScheduledJobType, SchedulerEvent)
#: Only the columns that say which job it is.
_IDENTITY = ("name", "method", "frequency", "cron_format", "queue", "scheduler_event")
_COLUMNS = [TYPES.c[name] for name in _IDENTITY]
IDENTITIES = select(*_COLUMNS, *_OF_EVENT).outerjoin(EVENTS, _IS_ITS_EVENT)

#: What a database, its driver or SQLAlchemy raises for a value that its column cannot have.
UNREADABLE = (DataError, InterfaceError, OperationalError, ValueError, TypeError, AttributeError)

Resolve = Callable[[str, str], Callable[..., Any]]
Table = Callable[[str, str], Mapping[str, str]]


class SiteSchedule:
    """What the scheduler and its jobs do on the open site."""

    def __init__(self, settings: Settings, method: Resolve, table: Table) -> None:
        self._settings, self._method, self._table = settings, method, table

    def job_types(self) -> list[JobType]:
        """The open site's records; none if it has no table yet."""
        db = require_current().db
        # Another process may be making them, one after another.
        return self._read() if all(has_table(db, kind) for kind in READ) else []

    def _read(self) -> list[JobType]:
        session = require_current()
        against = self._table(AGAINST, session.site)
        try:
            return [_job_type(row, against) for row in session.db.execute(JOB_TYPES)]
        except UNREADABLE:
            return self._read_one_by_one(session, against)

    def _read_one_by_one(
        self, session: StandaloneSession, against: Mapping[str, str]
    ) -> list[JobType]:
        """The records when some hold what their columns cannot have: those have a ``fault``."""
        count = session.db.scalar(select(func.count()).select_from(TYPES)) or 0
        types = []
        for number in range(count):
            at = TYPES.c.name, number
            try:
                row = session.db.execute(_numbered(JOB_TYPES, *at)).one()
                types.append(_job_type(row, against))
            except UNREADABLE as error:
                fault = f"{type(error).__name__}: {shortened(str(getattr(error, 'orig', error)))}"
                row = session.db.execute(_numbered(IDENTITIES, *at)).one()
                types.append(_unreadable(row, against, fault))
        return types

    def change(
        self,
        add: Sequence[ScheduledJob],
        change: Mapping[str, ScheduledJob],
        remove: Sequence[str],
    ) -> list[JobType]:
        """Add, change and remove records, and give all; their tables are made if need be."""
        db = require_current().db
        db.connection()  # so that SQLite makes its tables in this transaction
        make_tables(db)
        for name in remove:  # locked: the second process that removes it finds that it is gone
            db.get_one(ScheduledJobType, name, with_for_update=True).delete()
        for name, job in change.items():
            record = db.get_one(ScheduledJobType, name, with_for_update=True)
            if record.queue == queue_of(record.frequency):  # nobody chose another
                record.queue = queue_of(job.frequency)
            record.frequency, record.cron_format = job.frequency, job.cron_format
        db.flush()
        if add:
            db.execute(insert(TYPES), self._rows(add))
        return self._read()

    def _rows(self, jobs: Iterable[ScheduledJob]) -> list[dict[str, Any]]:
        """New records' values; a bench may add very many, most of them alike."""
        site, now = require_current().site, _now()
        next_of = self._next_of(site)
        rows = []
        for job in jobs:
            row = {"name": made_name(), "creation": now, **_checked(job)}
            record = JobType(
                row["name"], job.method, job.frequency, job.cron_format, row["queue"],
                stopped=False, has_event=False, creation=now,
            )  # fmt: skip
            rows.append({**row, "next_execution": next_of(record, now)})
        return rows

    def set_last_executions(self, times: Mapping[str, datetime]) -> None:
        """Correct the times of last executions that a wrong clock has written.

        A due time that ran last but has not come yet is removed.  The scheduler is not told.
        """
        seen = ScheduledJobType.last_due
        set_right = update(ScheduledJobType).where(ScheduledJobType.name == bindparam("record"))
        require_current().db.connection().execute(
            set_right.values(
                last_execution=bindparam("at"),
                last_due=case((seen > bindparam("seconds"), None), else_=seen),
            ),
            [
                {"record": name, "at": at, "seconds": at.timestamp()}
                for name, at in sorted(times.items())
            ],
        )

    def note_next_executions(self, times: Mapping[str, datetime | None]) -> None:
        """Write when these types are due next; the scheduler is not told."""
        noted = update(ScheduledJobType).where(ScheduledJobType.name == bindparam("record"))
        require_current().db.connection().execute(
            noted.values(next_execution=bindparam("due")),
            # Always in the same order, so that two processes cannot wait for each other.
            [{"record": name, "due": due} for name, due in sorted(times.items())],
        )

    def clear_logs(self, before: datetime) -> None:
        """Delete the logs of runs that began before that time."""
        db = require_current().db
        if has_table(db, ScheduledJobLog):
            old = delete(ScheduledJobLog).where(ScheduledJobLog.creation < before)
            db.execute(old.execution_options(**{BLIND: True}))

    # --- as jobs

    def run(self, job_type: str, due: float) -> Any:
        """Run that type's method, and note when; what ``frappe_jobs.run_scheduled_job`` does.

        Its log, if it has one, is written before the run, and ends as Complete or Failed.  Nothing
        is run if that due time, or a later one, has run before.
        """
        session = require_current()
        row = session.db.execute(JOB_TYPES.where(TYPES.c.name == job_type)).one_or_none()
        if row is None:
            raise MethodNotFound(f"Scheduled Job Type {job_type!r} of {session.site} is gone.")
        record = _job_type(row, self._table(AGAINST, session.site))
        session.commit()  # on SQLite a transaction that has read what is old cannot write
        if not self._begin(session, record, due):
            logger.warning("%s on %s has run for that time before", record.method, session.site)
            return None
        log = _begin_log(session, job_type) if row.create_log else None
        session.commit()
        begun = time.monotonic()
        try:
            result = self._method(record.method, session.site)()
            session.commit()
        except BaseException as error:
            session.rollback()
            _end_log(session, log, "Failed", time.monotonic() - begun, traceback_of(error))
            session.commit()
            raise
        try:
            _end_log(session, log, "Complete", time.monotonic() - begun)
            session.commit()
        except Exception:  # the work is done and committed: no reason to do it again
            session.rollback()
            logger.exception("the log of %s on %s cannot be ended", record.method, session.site)
        return result

    def _begin(self, session: StandaloneSession, record: JobType, due: float) -> bool:
        """Note in the record that it begins; False if that due time has run before."""
        job = current_job()
        # At least by the scheduler's clock: after a flushed Redis its time must not come again.
        last = max(_now(), _utc(job.message.enqueued_at)) if job else _now()
        next_at = self._next_of(session.site)(record, last)
        values = {"last_execution": last, "next_execution": next_at, "last_due": due}
        noted = update(ScheduledJobType).filter_by(name=record.name).values(values)
        if not job or job.attempt == 1:
            noted = noted.where(_has_not_run(due, last))
        result: Any = session.db.execute(noted)
        return bool(result.rowcount)

    def _next_of(self, site: str) -> Callable[[JobType, datetime], datetime | None]:
        """A function that gives when a type of that site is due after some time; None: never."""
        try:
            zone = zone_of(self._settings, site)
        except ConfigError:
            zone = ZoneInfo("UTC")

        def next_of(record: JobType, after: datetime) -> datetime | None:
            try:
                entry = entry_of(record, site, self._settings.scheduler_interval, zone)
            except FrappeJobsError:  # somebody has broken it since it was queued
                return None
            return None if record.stopped else entry.next_run(after)

        return next_of

    def note_failure(self, job: Any, _connection: Any, _type: Any, value: Any, _tb: Any) -> None:
        """End the log of a run whose process was killed."""
        session = require_current()
        open_log = select(ScheduledJobLog.name).filter_by(
            scheduled_job_type=job.kwargs["job_type"], status="Scheduled"
        )
        before = ScheduledJobLog.creation <= _utc(job.ended_at)  # not a later run's
        for name in session.db.scalars(open_log.where(before)).all():
            _end_log(session, name, "Failed", None, str(value))


@lru_cache(maxsize=10_000)
def _checked(job: ScheduledJob) -> Mapping[str, Any]:
    """What a record of that job says; raises ScheduleError."""
    record = ScheduledJobType(
        method=job.method, frequency=job.frequency, cron_format=job.cron_format
    )
    record.validate()
    columns = ("method", "frequency", "cron_format", "queue", "create_log")
    values = {name: getattr(record, name) for name in columns}
    return {"stopped": False, "scheduler_event": "", **values}


def _numbered(rows: Any, order: Any, number: int) -> Any:
    return rows.order_by(order).offset(number).limit(1)


def _unreadable(record: Any, against: Mapping[str, str], fault: str) -> JobType:
    """From a row of IDENTITIES."""
    return JobType(
        record.name, _method_of(record, against), record.frequency, record.cron_format,
        record.queue, stopped=False, has_event=bool(record.scheduler_event), creation=_now(),
        fault=fault,
    )  # fmt: skip


def _method_of(record: Any, against: Mapping[str, str]) -> str:
    return record.method or record.event_method or against.get(record.scheduled_against, "")


def _job_type(record: Any, against: Mapping[str, str]) -> JobType:
    """From a row of JOB_TYPES."""
    return JobType(
        name=record.name, method=_method_of(record, against), frequency=record.frequency,
        cron_format=record.cron_format, queue=record.queue, stopped=record.stopped,
        has_event=bool(record.scheduler_event), creation=record.creation,
        last_execution=record.last_execution, next_execution=record.next_execution,
    )  # fmt: skip


@dataclass(frozen=True)
class Changed:
    """Tells that a site's schedule has changed; two of the same site are equal."""

    tell: Callable[[str], None]
    site: str

    def __call__(self) -> None:
        self.tell(self.site)


def _note_change(_mapper: object, _connection: object, record: Any) -> None:
    session, db = current(), object_session(record)
    if session and db:
        AfterCommit.of(db).add_once(Changed(session.schedule_changed, session.site))


for _kind in (ScheduledJobType, SchedulerEvent):
    for _event in ("after_insert", "after_update", "after_delete"):
        event.listen(_kind, _event, _note_change)


def _has_not_run(due: float, now: datetime) -> Any:
    """The condition that the record knows of no run for that due time, or a later one.

    It knows of none if somebody has set its last execution back, or a clock that was ahead has
    noted a due time that has not come yet.
    """
    seen, last = ScheduledJobType.last_due, ScheduledJobType.last_execution
    return or_(seen.is_(None), seen < due, seen > now.timestamp(), last.is_(None), last < _utc(due))


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
        kept = safe(bounded(details, session.settings.max_traceback))
        values = {"status": status, "duration": duration, "details": kept}
        ended = update(ScheduledJobLog).filter_by(name=name).values(values)
        session.db.execute(ended.execution_options(**{BLIND: True}))


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
