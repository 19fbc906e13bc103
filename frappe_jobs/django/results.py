"""A job's record as Django's TaskResult."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from django.conf import settings
from django.utils.timezone import make_naive

from frappe_jobs.arguments import Arguments
from frappe_jobs.django import task as tasks
from frappe_jobs.django.framework import base
from frappe_jobs.errors import JobFailed
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, QUEUED, STARTED, Record

_STATUS = {
    QUEUED: base.TaskResultStatus.READY,
    STARTED: base.TaskResultStatus.RUNNING,
    FINISHED: base.TaskResultStatus.SUCCESSFUL,
    FAILED: base.TaskResultStatus.FAILED,
    CANCELLED: base.TaskResultStatus.FAILED,
}
#: Errors that a record names only in its reason.
NO_EXCEPTIONS = ("SystemExit", "KeyboardInterrupt", "GeneratorExit")
#: Whose error it is that no task has raised: it was killed, or cancelled.
NO_ERROR_OF_ITS_OWN = f"{JobFailed.__module__}.{JobFailed.__qualname__}"


def result_of(record: Record, arguments: Arguments) -> Any:
    """The TaskResult of a task's job; raises MethodNotFound or MethodNotAllowed if it is gone."""
    call = arguments.decode(record.message.arguments)
    run_after = call["run_after"]
    task = tasks.find(call["task"]).using(
        backend=call["backend"],
        priority=call["priority"],
        queue_name=record.message.queue,
        run_after=None if run_after is None else datetime.fromisoformat(run_after),
    )
    before = list(record.attempts)
    started = record.started_at
    result = base.TaskResult(
        task=task, id=record.message.job_id, status=_STATUS[record.status],
        enqueued_at=moment(record.message.enqueued_at),
        started_at=moment(before[0]["started_at"] if before else started),
        last_attempted_at=moment(started), finished_at=moment(record.ended_at),
        args=call["args"], kwargs=call["kwargs"], backend=call["backend"],
        errors=[base.TaskError(exception_class_path=path, traceback=text)
                for path, text in _errors(record)],
        worker_ids=[*_workers(record)],
    )  # fmt: skip
    value = arguments.decode_value(record.result)
    object.__setattr__(result, "_return_value", value)  # as Django's own backends do
    return result


def moment(seconds: float | None) -> datetime | None:
    """A time as Django's ``timezone.now()`` gives it."""
    if seconds is None:
        return None
    aware = datetime.fromtimestamp(seconds, timezone.utc)
    naive: datetime = aware if settings.USE_TZ else make_naive(aware)
    return naive


def _errors(record: Record) -> Iterator[tuple[str, str]]:
    """Of each attempt that failed its error's path and what is known of it, oldest first."""
    for attempt in record.attempts:
        reason = str(attempt.get("reason") or "")
        yield _path(attempt.get("error"), reason), reason
    if record.status in (FAILED, CANCELLED):
        reason = record.reason or ""
        yield _path(record.error, reason), record.traceback or reason


def _path(error: str | None, reason: str) -> str:
    """The error's dotted path; of what is no Exception only the reason says what it was."""
    if (kind := reason.partition(":")[0]) in NO_EXCEPTIONS:
        return f"builtins.{kind}"
    if not error:
        return NO_ERROR_OF_ITS_OWN
    return error if "." in error else f"builtins.{error}"


def _workers(record: Record) -> Iterator[str]:
    """Of each attempt its worker."""
    for attempt in record.attempts:
        yield str(attempt.get("worker") or "")
    if record.status != QUEUED and record.started_at is not None:
        yield record.worker or ""
