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

#: The records as rows, with what their Scheduler Events say: a bench may have very many.
_OF_EVENT = EVENTS.c.method.label("event_method"), EVENTS.c.scheduled_against
_IS_ITS_EVENT = EVENTS.c.name == TYPES.c.scheduler_event
JOB_TYPES = select(*TYPES.columns, *_OF_EVENT).outerjoin(EVENTS, _IS_ITS_EVENT)
#: What of them says which job it is.
_IDENTITY = ("name", "method", "frequency", "cron_format", "queue", "scheduler_event")
IDENTITIES = select(*(TYPES.c[one] for one in _IDENTITY), *_OF_EVENT).outerjoin(
    EVENTS, _IS_ITS_EVENT
)

#: What a database, its driver or SQLAlchemy says of a value that is none.
UNREADABLE = (DataError, InterfaceError, OperationalError, ValueError, TypeError, AttributeError)

Resolve = Callable[[str, str], Callable[..., Any]]
Table = Callable[[str, str], Mapping[str, str]]


class SiteSchedule:
    """What the scheduler and its jobs do on the open site."""

    def __init__(self, settings: Settings, method: Resolve, table: Table) -> None:
        self._settings, self._method, self._table = settings, method, table

    def job_types(self) -> list[JobType]:
        """The open site's records; none where it has no table yet."""
        return self._read() if has_table(require_current().db, ScheduledJobType) else []

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
        """Where one of them holds what is no value of its column: that one says so."""
        count = session.db.scalar(select(func.count()).select_from(TYPES)) or 0
        found = []
        for number in range(count):
            at = TYPES.c.name, number
            try:
                row = session.db.execute(_numbered(JOB_TYPES, *at)).one()
                found.append(_job_type(row, against))
            except UNREADABLE as error:
                fault = f"{type(error).__name__}: {shortened(str(getattr(error, 'orig', error)))}"
                row = session.db.execute(_numbered(IDENTITIES, *at)).one()
                found.append(_unreadable(row, against, fault))
        return found

    def change(
        self,
        add: Sequence[ScheduledJob],
        change: Mapping[str, ScheduledJob],
        remove: Sequence[str],
    ) -> list[JobType]:
        """Add, change and remove records, and give all; their tables are made if need be."""
        db = require_current().db
        db.connection()  # so that SQLite makes its tables in this transaction, not in one more
        make_tables(db)
        for name in remove:  # locked: of two who remove it, the second finds that it is gone
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
            one = JobType(
                row["name"], job.method, job.frequency, job.cron_format, row["queue"],
                stopped=False, has_event=False, creation=now,
            )  # fmt: skip
            rows.append({**row, "next_execution": next_of(one, now)})
        return rows

    def set_last_executions(self, times: Mapping[str, datetime]) -> None:
        """Write when these types have run last, in place of times that a wrong clock has written.

        So is a due time that ran last and has not come yet; nobody is told of the change.
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
        """Write when these types are due next; nobody is told that the schedule has changed."""
        noted = update(ScheduledJobType).where(ScheduledJobType.name == bindparam("record"))
        require_current().db.connection().execute(
            noted.values(next_execution=bindparam("due")),
            # In one order, so that of two who write at once none holds what the other waits for.
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

        Its log, if it has one, is there from the beginning, and ends as Complete or Failed.
        Nothing is run if a due time as late has run before.
        """
        session = require_current()
        found = session.db.execute(JOB_TYPES.where(TYPES.c.name == job_type)).one_or_none()
        if found is None:
            raise MethodNotFound(f"Scheduled Job Type {job_type!r} of {session.site} is gone.")
        one = _job_type(found, self._table(AGAINST, session.site))
        session.commit()  # SQLite lets nobody write who has read what is old by now
        if not self._begin(session, one, due):
            logger.warning("%s on %s has run for that time before", one.method, session.site)
            return None
        log = _begin_log(session, job_type) if found.create_log else None
        session.commit()
        begun = time.monotonic()
        try:
            result = self._method(one.method, session.site)()
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
            logger.exception("the log of %s on %s cannot be ended", one.method, session.site)
        return result

    def _begin(self, session: StandaloneSession, one: JobType, due: float) -> bool:
        """Note in the record that it begins; False if that due time has run before."""
        job = current_job()
        # By the scheduler's clock at least: after a flushed Redis its time must not come again.
        last = max(_now(), _moment_of(job.message.enqueued_at)) if job else _now()
        values = {
            "last_execution": last,
            "next_execution": self._next_of(session.site)(one, last),
            "last_due": due,
        }
        noted = update(ScheduledJobType).filter_by(name=one.name).values(values)
        if not job or job.attempt == 1:
            noted = noted.where(_has_not_run(due, last))
        found: Any = session.db.execute(noted)
        return bool(found.rowcount)

    def _next_of(self, site: str) -> Callable[[JobType, datetime], datetime | None]:
        """Gives when a type of that site is due next after a moment; None: never."""
        try:
            zone = zone_of(self._settings, site)
        except ConfigError:
            zone = ZoneInfo("UTC")

        def next_of(one: JobType, after: datetime) -> datetime | None:
            try:
                entry = entry_of(one, site, self._settings.scheduler_interval, zone)
            except FrappeJobsError:  # changed for the worse since it was queued
                return None
            return None if one.stopped else entry.next_run(after)

        return next_of

    def note_failure(self, job: Any, _connection: Any, _type: Any, value: Any, _tb: Any) -> None:
        """End the log of a run whose process was killed, as nobody else did."""
        session = require_current()
        open_log = select(ScheduledJobLog.name).filter_by(
            scheduled_job_type=job.kwargs["job_type"], status="Scheduled"
        )
        before = ScheduledJobLog.creation <= _moment_of(job.ended_at)  # not of a later run
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
    return {"stopped": False, "scheduler_event": ""} | {
        one: getattr(record, one) for one in columns
    }


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


def _has_not_run(due: float, now: datetime) -> Any:
    """That the record knows of no run for that due time, or a later one.

    It does not where somebody has set its last execution back, and where a clock that was ahead has
    noted a due time that has not come yet.
    """
    seen, last = ScheduledJobType.last_due, ScheduledJobType.last_execution
    return or_(
        seen.is_(None), seen < due, seen > now.timestamp(), last.is_(None), last < _moment_of(due)
    )


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


def _moment_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
