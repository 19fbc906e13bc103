"""In a worker: run a Django task, and send Django's signals."""

from __future__ import annotations

from typing import Any

from frappe_jobs.current import current_job
from frappe_jobs.django import task as tasks
from frappe_jobs.django.framework import base, normalize_json, signals
from frappe_jobs.django.results import result_of
from frappe_jobs.errors import JobError
from frappe_jobs.job import Job
from frappe_jobs.runtime import Runtime


def run(here: Runtime, **call: Any) -> Any:
    """Call the task; what it returns must be what JSON carries, as Django says."""
    task = tasks.find(call["task"])
    job = current_job()
    record = here.ledger.read(job.message.id) if job else None
    if record is None:
        raise JobError("A Django task runs in a worker: enqueue it.")
    result = result_of(record, here.host.arguments)
    signals.task_started.send(type(result.task.get_backend()), task_result=result)
    context = [base.TaskContext(task_result=result)] if task.takes_context else []
    return normalize_json(task.call(*context, *call["args"], **call["kwargs"]))


def ended(here: Runtime, job: Job, _redis: object, *how: Any) -> None:
    """Send ``task_finished``, once the job's record says its end; ``how`` as callbacks get it."""
    if record := here.ledger.read(job.message_id):
        result = result_of(record, here.host.arguments)
        try:
            for error in how:
                if isinstance(error, BaseException):
                    raise error  # Django logs what is being handled
        except BaseException:  # noqa: B036 - the task's own, which its record says
            _send_finished(result)
        else:
            _send_finished(result)


def _send_finished(result: Any) -> None:
    signals.task_finished.send(type(result.task.get_backend()), task_result=result)
