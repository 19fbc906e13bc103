"""Frappe 16's jobs with a Background Task: ``enqueue_task``, and what is done with one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from frappe_jobs import runtime
from frappe_jobs.api.composing import call_here, compose, is_task
from frappe_jobs.api.later import Method
from frappe_jobs.background_task.inside import DOCTYPE
from frappe_jobs.context import require_session
from frappe_jobs.dispatch import Options
from frappe_jobs.errors import ArgumentError, JobError
from frappe_jobs.host.own_methods import TASK_FAILED, TASK_SUCCEEDED
from frappe_jobs.message import Retry, Sending
from frappe_jobs.methods import as_path

#: The fields of ``get_task_status``.
STATUS = ("status", "progress", "stage", "result", "exception", "started_at", "ended_at")


def enqueue_task(
    method: Method,
    *,
    task_name: str | None = None,
    queue: str = "default",
    timeout: int | None = None,
    ref_doctype: str | None = None,
    ref_docname: str | None = None,
    deduplicate: bool = False,
    job_id: str | None = None,
    enqueue_after_commit: bool = True,
    now: bool = False,
    on_success: Method | None = None,
    on_failure: Method | None = None,
    retry_on: Sequence[type[BaseException] | str] = (),
    max_retries: int = 0,
    show_progress_bar: bool = True,
    allow_user_cancellation: bool = True,
    allow_user_retry: bool = True,
    at_front: bool = False,
    at_front_when_starved: bool = False,
    **kwargs: Any,
) -> Any:
    """Have a worker run the method for a user who waits for it; returns its Background Task.

    The record belongs to the open transaction, so the job is sent when that commits, with
    ``enqueue_after_commit=False`` as well.  If ``deduplicate`` finds ``job_id`` waiting or running,
    nothing is sent and that job's Background Task is returned; None if it has none.  With ``now``
    the method is called here, in this transaction, and the record says how it ended; an error is
    raised all the same.

    ``ref_doctype`` and ``ref_docname`` name the document that it is about.  After the errors of
    ``retry_on``, classes or their dotted paths, it is run again at once, ``max_retries`` times.
    ``on_success`` is called with what it takes of ``task``, ``result`` and the method's arguments,
    ``on_failure`` with ``exception`` in place of ``result``.  With
    ``allow_user_cancellation=False`` its user may not cancel it while it runs, with
    ``allow_user_retry=False`` not run it again; Administrator may.  Raises what ``enqueue`` does.
    """
    asked = {name: value for name, value in locals().items() if name != "kwargs"}
    if theirs := _frameworks_own():
        return theirs.enqueue_task(**asked, **kwargs)
    if is_task(method):
        raise ArgumentError(
            f"{method.name} is a Celery task, of which there is no {DOCTYPE}: enqueue it."
        )
    here, session = runtime.current(), require_session()
    callbacks = {
        "on_success_callback": _path(on_success), "on_failure_callback": _path(on_failure)
    }  # fmt: skip
    fields = callbacks | {
        "show_progress_bar": bool(show_progress_bar),
        "allow_user_cancellation": bool(allow_user_cancellation),
        "allow_user_retry": bool(allow_user_retry),
    }
    if ref_doctype:
        fields |= {"ref_doctype": ref_doctype, "ref_docname": ref_docname and str(ref_docname)}
    options = Options(
        queue=queue, timeout=timeout, job_name=task_name, job_id=job_id, deduplicate=deduplicate,
        on_success=TASK_SUCCEEDED if on_success else None,
        on_failure=TASK_FAILED if on_failure else None,
        at_front=at_front, at_front_when_starved=at_front_when_starved, track_job=True,
        retry=Retry(max_retries, only=retry_on) if retry_on and max_retries else None,
    )  # fmt: skip
    sending = compose(method, kwargs, options)
    inside, task_id = here.background_tasks.inside, sending.message.id
    if now:
        inside.run_here(sending.message, fields, partial(call_here, method, kwargs), session)
        return here.host.documents.get_doc(DOCTYPE, task_id, for_update=True)
    if here.background_tasks.enqueue([sending], session, fields) == [None]:
        return _task_of_the_other(sending)
    return here.host.documents.get_doc(DOCTYPE, task_id)


def _path(callback: Method | None) -> str | None:
    """The callback's path, if it may run on the open site."""
    if callback is None:
        return None
    path = as_path(callback)
    runtime.current().host.methods.resolve(path, require_session().site)
    return path


def _task_of_the_other(refused: Sending) -> Any:
    """The Background Task of the job whose id was wanted."""
    here, message = runtime.current(), refused.message
    other = here.ledger.find(message.site, message.job_id)
    task_id = other.message.task_id if other else None
    return here.host.documents.get_doc(DOCTYPE, task_id) if task_id else None


def get_current_task() -> Any:
    """The Background Task of the job that this code runs in; None if there is none.

    It says how far the job is: ``publish_progress(percent, stage)``, ``update_stage(stage)``; and
    keeps what it has made: ``store_result(result)``, ``attach_file(file_name, content)``.
    """
    if theirs := _frameworks_own():
        return theirs.get_current_task()
    return runtime.current().background_tasks.inside.current()


def get_task_status(task_id: str) -> dict[str, Any] | None:
    """How far that task of the open site is; None if there is none.

    ``status``, ``progress``, ``stage``, ``result`` (JSON), ``exception``, ``started_at``,
    ``ended_at``, as its job is now.
    """
    if theirs := _frameworks_own():
        found: dict[str, Any] | None = theirs.get_task_status(task_id)
        return found
    documents = runtime.current().host.documents
    if not documents.get_all(DOCTYPE, {"task_id": task_id}, ["name"], None, 1):
        return None
    task = documents.get_doc(DOCTYPE, task_id)
    return {name: getattr(task, name) for name in STATUS}


def stop_task(task_id: str) -> None:
    """Cancel that task's job, as ``cancel()`` of its Background Task.

    Raises DoesNotExistError, PermissionError, and JobError if it has ended.
    """
    if theirs := _frameworks_own():
        theirs.stop_task(task_id)
        return
    task = _task(task_id)
    if not task.cancel():
        raise JobError(f"{DOCTYPE} {task_id} is {task.status}; only one that waits or runs stops.")


def retry_task(task_id: str) -> None:
    """Have that task's job run again, as ``run_again()`` of its Background Task.

    Raises DoesNotExistError, PermissionError, and JobError unless it failed or was cancelled.
    """
    if theirs := _frameworks_own():
        theirs.retry_task(task_id)
        return
    _task(task_id).run_again()


def _frameworks_own() -> Any:
    """These functions of the framework's, where it keeps Background Tasks itself; or None."""
    return runtime.current().host.tasks.functions


def _task(task_id: str) -> Any:
    return runtime.current().host.documents.get_doc(DOCTYPE, task_id)
