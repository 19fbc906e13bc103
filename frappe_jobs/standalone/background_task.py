"""The Background Task: what a site without Frappe keeps of a tracked job, with Frappe's fields."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float, Index, String, inspect, true
from sqlalchemy.orm import Mapped, mapped_column, object_session
from sqlalchemy.orm.attributes import set_committed_value

from frappe_jobs.background_task.record import CANCELLED, ENDED, LENGTHS, OPEN
from frappe_jobs.errors import ArgumentError, HostError, JobError, ScheduleError
from frappe_jobs.job import Job
from frappe_jobs.standalone.document import Document
from frappe_jobs.standalone.models import LONG_TEXT, Base, SiteRecord
from frappe_jobs.standalone.session import require_current


class BackgroundTask(SiteRecord, Base):
    """A job that was enqueued with ``track_job=True``; its name is its task id."""

    __tablename__ = "frappe_jobs_background_task"
    __doctype__ = "Background Task"
    __table_args__ = (
        Index("frappe_jobs_task_of_user", "user", "creation"),
        Index("frappe_jobs_task_by_status", "status", "creation"),
        Index("frappe_jobs_task_by_end", "ended_at"),
    )

    task_id: Mapped[str] = mapped_column(String(140))
    #: The caller's job_id, or a generated id.
    job_id: Mapped[str]
    #: Its newest message's id.
    message_id: Mapped[str] = mapped_column(String(140))
    task_name: Mapped[str]
    user: Mapped[str]
    method: Mapped[str]
    #: JSON, as the job's message carries it.
    arguments: Mapped[str] = mapped_column(LONG_TEXT)
    queue: Mapped[str] = mapped_column(String(140))
    status: Mapped[str] = mapped_column(String(40))
    #: Per cent.
    progress: Mapped[float] = mapped_column(Float(53), default=0.0)
    stage: Mapped[str | None]
    #: JSON; None if it returned nothing, or nothing that JSON can carry.
    result: Mapped[str | None] = mapped_column(LONG_TEXT)
    #: The traceback, or why it was killed or cancelled.
    exception: Mapped[str | None] = mapped_column(LONG_TEXT)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    ref_doctype: Mapped[str | None] = mapped_column(String(140))
    ref_docname: Mapped[str | None]
    #: The rest of its newest message, as JSON.
    header: Mapped[str] = mapped_column(LONG_TEXT)
    #: For the page that shows it.
    show_progress_bar: Mapped[bool] = mapped_column(default=True, server_default=true())
    #: Whether its user may cancel it while it runs, and run it again.
    allow_user_cancellation: Mapped[bool] = mapped_column(default=True, server_default=true())
    allow_user_retry: Mapped[bool] = mapped_column(default=True, server_default=true())
    #: Dotted paths.
    on_success_callback: Mapped[str | None]
    on_failure_callback: Mapped[str | None]

    def cancel(self) -> bool:
        """End the job without its effect: a waiting job never starts, a running job is killed.

        False, and nothing is changed, if it had ended before.  Raises PermissionError unless the
        open site's user is the record's, or Administrator.
        """
        session = require_current()
        did = session.background_tasks.cancel(self, session)
        self.look()
        if did and self.status in OPEN:  # nobody knows of its job
            set_committed_value(self, "status", CANCELLED)
        return did

    def run_again(self) -> Job:
        """Have a job that failed or was cancelled run again, when this transaction commits.

        Raises PermissionError as ``cancel`` does; JobError if it waits, runs, or is completed.
        """
        session = require_current()
        job = session.background_tasks.run_again(self, session)
        if db := object_session(self):
            db.refresh(self)
        return job

    def publish_progress(self, percent: float, stage: str | None = None) -> None:
        """Say how far the job is, per cent, and what it is doing; for the job itself.

        Raises JobError anywhere else, BrokerUnavailable.
        """
        self._publish(percent, stage)

    def update_stage(self, stage: str) -> None:
        """Say what the job is doing; as ``publish_progress``."""
        self._publish(None, stage)

    def _publish(self, percent: float | None, stage: str | None) -> None:
        inside = require_current().background_tasks.inside
        for name, value in inside.publish(self.task_id, percent, stage).items():
            set_committed_value(self, name, value)

    def store_result(self, result: Any) -> None:
        """Keep a result, as JSON, in the job's own transaction; for the job itself.

        What its method returns takes its place, unless that is None.  Raises JobError anywhere
        else, JobNotSerializable.
        """
        text = require_current().background_tasks.inside.store(self.task_id, result)
        set_committed_value(self, "result", text)

    def attach_file(self, file_name: str, content: bytes, **further: Any) -> str:
        """Frappe's; raises HostError here, where a site keeps no files."""
        raise HostError(
            f"{file_name!r} cannot be attached to {self.doctype} {self.task_id}: a site without "
            "Frappe keeps no files. Store it where your app does, and its place by store_result()."
        )

    def look(self) -> None:
        """Take over what is known of the job now: while it runs, its record may be behind."""
        if self.status in OPEN and not inspect(self).modified:
            session, message_id = require_current(), self.message_id
            known = session.background_tasks.live(session.site, [message_id])
            for name, value in known.get(message_id, {}).items():
                set_committed_value(self, name, value)

    def save(self) -> Document:
        """Write its values; raises JobError for a new record, to which no job belongs."""
        if inspect(self).transient:
            raise JobError(f"A {self.doctype} is made by enqueue(…, track_job=True).")
        return super().save()

    def delete(self) -> None:
        """Remove it; raises JobError while the job waits or runs."""
        self.look()
        if self.status in OPEN:
            raise JobError(f"{self.doctype} {self.task_id} is {self.status}: cancel it first.")
        super().delete()

    def validate(self) -> None:
        """Raise ArgumentError for a value that no record can hold."""
        try:
            super().validate()
            for name, longest in LENGTHS.items():
                self._text(name, longest, required=True).encode()
        except (ScheduleError, UnicodeEncodeError) as error:
            raise ArgumentError(f"It cannot be tracked: {error}") from None
        if self.status not in (*OPEN, *ENDED):
            raise ArgumentError(
                f"{self.doctype} {self.name}: 'status' is {self.status!r}; "
                f"legal: {', '.join((*OPEN, *ENDED))}."
            )
