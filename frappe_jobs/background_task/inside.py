"""A tracked job and its own Background Task: progress, a result, its callbacks, a run here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, Protocol

from frappe_jobs.background_task.record import (
    COMPLETED,
    FAILED,
    RUNNING,
    message_of,
    record_of,
)
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.current import CurrentJob, current_job
from frappe_jobs.errors import JobError
from frappe_jobs.host.port import Host
from frappe_jobs.host.session import Session
from frappe_jobs.host.task_records import TaskChange
from frappe_jobs.message import Message
from frappe_jobs.methods import call
from frappe_jobs.texts.error_text import traceback_of

logger = logging.getLogger(__name__)

DOCTYPE = "Background Task"

#: The task that is run here by ``enqueue_task(…, now=True)``.
_here: ContextVar[str | None] = ContextVar("task", default=None)


class Task(Protocol):
    """A Background Task, as the host's document."""

    task_id: str
    header: str
    arguments: str
    on_success_callback: str | None
    on_failure_callback: str | None


class TasksFromInside:
    """What the code of tracked jobs does with their Background Tasks."""

    def __init__(self, host: Host, tracking: Tracking) -> None:
        self._host, self._tracking = host, tracking

    def current(self) -> Any:
        """The Background Task of the job that runs here; None outside of one, or if it has none."""
        job = current_job()
        task_id = _here.get() or (job.message.task_id if job else None)
        return self._host.documents.get_doc(DOCTYPE, task_id) if task_id else None

    # --- what it says

    def publish(self, task_id: str, percent: float | None, stage: str | None) -> dict[str, Any]:
        """Say how far that task is; gives the fields of its record that say so.

        Raises JobError unless it runs here.
        """
        percent = None if percent is None else float(percent)
        if job := self._job_of(task_id, "says how far it is"):
            self._tracking.publish(job, percent, stage)
        said = {"progress": percent, "stage": stage or None}
        said = {name: value for name, value in said.items() if value is not None}
        if job is None and said:
            self._host.tasks.change(self._host.require_current(), TaskChange(task_id, said))
        return said

    def store(self, task_id: str, result: Any) -> str:
        """Keep that result in its record, in the transaction that is open; gives it as JSON.

        Raises JobError unless it runs here, JobNotSerializable.
        """
        job = self._job_of(task_id, "stores its result")
        text = self._json(result)
        if job:
            self._tracking.store(job.message, text)
        else:
            change = TaskChange(task_id, {"result": text})
            self._host.tasks.change(self._host.require_current(), change)
        return text

    def _job_of(self, task_id: str, does: str) -> CurrentJob | None:
        """The job of that task, in which this is called; None if it is run here without one."""
        job = current_job()
        if _here.get() == task_id:
            return None
        if job is None or job.message.task_id != task_id:
            raise JobError(f"Only the job of {DOCTYPE} {task_id} itself {does}, while it runs.")
        return job

    def _json(self, result: Any) -> str:
        return json.dumps(self._host.arguments.encode_value(result, "result"))

    # --- its callbacks

    def succeeded(self, task_id: str | None, result: Any) -> None:
        """Call its ``on_success`` with what it takes of ``task``, ``result`` and the arguments.

        An error in it takes back what it has done, is logged, and changes nothing else.
        """
        self._call_back(task_id, "on_success_callback", {"result": result})

    def failed(self, task_id: str | None, error: BaseException) -> None:
        """The same with its ``on_failure`` and ``exception``."""
        self._call_back(task_id, "on_failure_callback", {"exception": error})

    def _call_back(self, task_id: str | None, field: str, outcome: Mapping[str, Any]) -> None:
        session = self._host.require_current()
        task: Task = self._host.documents.get_doc(DOCTYPE, task_id)
        if (path := getattr(task, field)) is None:
            return
        message = message_of(session.site, task.header, task.arguments)
        name = message.name
        try:
            arguments = self._host.arguments.decode(message.arguments)
            method = self._host.methods.resolve(path, session.site)
            call(method, **{"task": task, **outcome, **arguments})
        except Exception as error:  # its code is the app's
            if not _here.get():  # else the transaction is its caller's
                session.rollback()
            self._host.log_error(f"{field} {path} of {name}", error)

    # --- run here

    def run_here(
        self,
        message: Message,
        fields: Mapping[str, Any],
        method: Callable[[], Any],
        session: Session,
    ) -> None:
        """Call the method in the session's transaction, with a record of it, and its callbacks.

        Raises what the method raises, once the record says so.
        """
        begun = {"status": RUNNING, "started_at": _now()}
        self._host.tasks.add(session, [{**record_of(message), **fields, **begun}])
        token = _here.set(message.id)
        try:
            result = method()
            text = {} if result is None else {"result": self._json(result)}
            self._end(session, message, COMPLETED, progress=100.0, **text)
            self.succeeded(message.id, result)
        except Exception as error:
            self._fail(session, message, error)
            raise
        finally:
            _here.reset(token)

    def _fail(self, session: Session, message: Message, error: Exception) -> None:
        try:
            self._end(session, message, FAILED, exception=traceback_of(error))
        except Exception as gone:  # the error has ended the transaction, and the record with it
            logger.info("%s: %s", message.name, gone)
        else:
            self.failed(message.id, error)

    def _end(self, session: Session, message: Message, status: str, **values: Any) -> None:
        values |= {"status": status, "ended_at": _now()}
        self._host.tasks.change(session, TaskChange(message.id, values))


def _now() -> datetime:
    return datetime.now(timezone.utc)
