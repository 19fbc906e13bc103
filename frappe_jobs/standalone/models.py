"""The scheduler's records on a site without Frappe, as documents with Frappe's names and fields."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Double,
    Index,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    delete,
    event,
    inspect,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from frappe_jobs.cron import check
from frappe_jobs.errors import ScheduleError, shortened
from frappe_jobs.scheduler.frequency import FREQUENCIES, frequency_named
from frappe_jobs.standalone.database import is_made
from frappe_jobs.standalone.document import Document
from frappe_jobs.standalone.session import current
from frappe_jobs.standalone.sqlite import BLIND

LOG_STATUSES = ("Scheduled", "Complete", "Failed")
PATH = 255
#: Methods differ by case; MariaDB compares texts without it, unless told otherwise.
PATH_TYPE = String(PATH).with_variant(
    mysql.VARCHAR(PATH, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)
LONG_TEXT = Text().with_variant(
    mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)


class Instant(TypeDecorator[datetime]):
    """A point in time: aware and in UTC in Python, without a zone in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        precise = mysql.DATETIME(fsp=6) if dialect.name in ("mysql", "mariadb") else DateTime()
        return dialect.type_descriptor(precise)

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.astimezone(timezone.utc).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.replace(tzinfo=timezone.utc) if value else None


def _now() -> datetime:
    return datetime.now(timezone.utc)


def made_name() -> str:
    """Ten characters, as the names that Frappe generates."""
    return secrets.token_hex(5)


class Base(DeclarativeBase):
    """The tables of these records; their names differ from those of any app."""

    type_annotation_map = {datetime: Instant, str: PATH_TYPE}


class SiteRecord(Document):
    """What the records have in common: a generated name, and a check before they are written."""

    __tablename__: str
    #: Jobs write into it, too: saving it is a conflict only if the same field has changed.
    __noted_beside__ = True

    name: Mapped[str] = mapped_column(String(140), primary_key=True)
    creation: Mapped[datetime] = mapped_column(default=_now)

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"name": made_name(), **values})

    def save(self) -> Document:
        """Check it, then write it; raises ScheduleError, and writes nothing, if it is wrong."""
        self.validate()
        with self._session().no_autoflush:
            self.check_others(self._session())
        return super().save()

    def validate(self) -> None:
        """Raise ScheduleError for a wrong value; fill in what is left out."""
        self._text("name", 140, required=True)

    def check_others(self, session: Session) -> None:
        """Raise ScheduleError if it does not agree with the other records."""

    def _text(self, field: str, longest: int = PATH, required: bool = False) -> str:
        """The field's text; empty if it has none."""
        value = getattr(self, field)
        text = "" if value is None else value
        is_legal = isinstance(text, str) and len(text) <= longest and "\0" not in text
        if not is_legal or (required and not text.strip()):
            raise ScheduleError(
                f"{self.doctype} {shortened(self.name)}: {field!r} is {shortened(value)}; "
                f"legal: a text of {int(required)} to {longest} characters."
            )
        if text != value:
            setattr(self, field, text)
        return str(text)

    def _time(self, field: str) -> None:
        value = getattr(self, field)
        if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
            raise ScheduleError(
                f"{self.doctype} {self.name!r}: {field!r} is {shortened(value)}; "
                "legal: a datetime with its time zone, or None."
            )


class ScheduledJobType(SiteRecord, Base):
    """A job that the scheduler queues; no two have the same method, frequency and expression."""

    __tablename__ = "frappe_jobs_scheduled_job_type"
    __doctype__ = "Scheduled Job Type"
    __table_args__ = (
        UniqueConstraint(
            "method", "frequency", "cron_format", "scheduler_event",
            name="frappe_jobs_unique_scheduled_job",
        ),
    )  # fmt: skip

    #: Empty if its scheduler event names it.
    method: Mapped[str] = mapped_column(default="")
    frequency: Mapped[str] = mapped_column(String(40))
    cron_format: Mapped[str] = mapped_column(default="")
    queue: Mapped[str] = mapped_column(String(140))
    stopped: Mapped[bool] = mapped_column(default=False)
    create_log: Mapped[bool] = mapped_column(default=False)
    last_execution: Mapped[datetime | None]
    next_execution: Mapped[datetime | None]
    #: The due time that ran last, in seconds since 1970: it does not run again, even if Redis has
    #: lost the note that it was queued.
    last_due: Mapped[float | None] = mapped_column(Double)
    scheduler_event: Mapped[str] = mapped_column(String(140), default="")

    def validate(self) -> None:
        """As in Frappe, the runs of all frequencies but All are always logged."""
        super().validate()
        frequency = frequency_named(self.frequency)
        self.frequency = frequency.name
        if self._text("cron_format") or frequency is FREQUENCIES["cron"]:
            check(self.cron_format)
        if not self._text("scheduler_event", 140) and not self._text("method").strip():
            raise ScheduleError(
                f"{self.doctype} {self.name!r} has neither a method nor a scheduler event; give it "
                "a dotted path, or the name of a Scheduler Event."
            )
        self._text("method")
        self.queue = self.queue or frequency.queue
        self._queue()
        self.stopped = bool(self.stopped)
        self.create_log = bool(self.create_log) or frequency is not FREQUENCIES["all"]
        self._time("last_execution")
        self._time("next_execution")

    def _queue(self) -> None:
        """Raise ScheduleError for a queue that the bench, if a site is open, does not have."""
        queue = self._text("queue", 140)
        known = session.settings.queues if (session := current()) else {queue}
        if queue not in known:
            raise ScheduleError(
                f"{self.doctype} {self.name!r}: 'queue' is {shortened(queue)}; "
                f"legal: {', '.join(known)}."
            )

    def check_others(self, session: Session) -> None:
        if self.scheduler_event and not session.get(SchedulerEvent, self.scheduler_event):
            raise ScheduleError(
                f"{self.doctype} {self.name!r}: there is no Scheduler Event "
                f"{self.scheduler_event!r}."
            )
        identity = ("method", "frequency", "cron_format", "scheduler_event")
        same = select(ScheduledJobType.name).filter_by(
            **{key: getattr(self, key) for key in identity}
        )
        if other := session.scalar(same.where(ScheduledJobType.name != self.name)):
            raise ScheduleError(
                f"{self.doctype} {other!r} is the same: {self.method or self.scheduler_event}, "
                f"{self.frequency} {self.cron_format}".rstrip() + ". Change that one."
            )

    def delete(self) -> None:
        """Remove it, and its logs."""
        session = self._session()
        super().delete()
        its_logs = delete(ScheduledJobLog).where(ScheduledJobLog.scheduled_job_type == self.name)
        session.execute(its_logs.execution_options(**{BLIND: True}))


class SchedulerEvent(SiteRecord, Base):
    """What Scheduled Job Types may be made for: a doctype, and perhaps the method to run."""

    __tablename__ = "frappe_jobs_scheduler_event"
    __doctype__ = "Scheduler Event"

    scheduled_against: Mapped[str] = mapped_column(String(140))
    method: Mapped[str] = mapped_column(default="")

    def validate(self) -> None:
        super().validate()
        self._text("scheduled_against", 140, required=True)
        self._text("method")

    def delete(self) -> None:
        """Remove it; raises ScheduleError while a Scheduled Job Type belongs to it."""
        types = select(ScheduledJobType.name).filter_by(scheduler_event=self.name)
        if names := sorted(self._session().scalars(types)):
            raise ScheduleError(
                f"{self.doctype} {self.name!r} has schedules: delete the Scheduled Job Type "
                f"{', '.join(names)} first."
            )
        super().delete()


class ScheduledJobLog(SiteRecord, Base):
    """One run of a Scheduled Job Type that has ``create_log``."""

    __tablename__ = "frappe_jobs_scheduled_job_log"
    __doctype__ = "Scheduled Job Log"
    __table_args__ = (
        Index("frappe_jobs_log_of_type", "scheduled_job_type", "creation"),
        Index("frappe_jobs_log_by_age", "creation"),
    )

    scheduled_job_type: Mapped[str] = mapped_column(String(140))
    status: Mapped[str] = mapped_column(String(40), default="Scheduled")
    #: Seconds.
    duration: Mapped[float | None]
    details: Mapped[str] = mapped_column(LONG_TEXT, default="")

    def validate(self) -> None:
        super().validate()
        self._text("scheduled_job_type", 140, required=True)
        self.status = self.status or LOG_STATUSES[0]
        if self.status not in LOG_STATUSES:
            raise ScheduleError(
                f"{self.doctype} {self.name!r}: 'status' is {shortened(self.status)}; "
                f"legal: {', '.join(LOG_STATUSES)}."
            )


#: Rows that are committed with what a job has written.
DONE_MARKERS = Table(
    "frappe_jobs_done_marker",
    Base.metadata,
    Column("name", PATH_TYPE, primary_key=True),
    Column("run", String(140), nullable=False),
    Column("result", LONG_TEXT),
    Column("done_at", Instant, nullable=False, index=True),
)


def has_table(session: Session, kind: type[SiteRecord]) -> bool:
    """Whether the site has that record's table; a database that was never opened is not made."""
    if not is_made(session.get_bind().engine.url):
        return False
    return inspect(session.connection()).has_table(kind.__tablename__)


def _validate(_mapper: object, _connection: object, record: SiteRecord) -> None:
    record.validate()


# A record that is written without save(), by the session's own commit, is checked as well.
for _event in ("before_insert", "before_update"):
    event.listen(SiteRecord, _event, _validate, propagate=True)
