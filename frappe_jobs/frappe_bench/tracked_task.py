"""What a Background Task does that follows a tracked job; from 16 on it stands among Frappe's own.

There Frappe keeps a doctype of that name itself, for its own ``enqueue_task``: ours are rows of it
that have a message's id, in a field that we have added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import frappe

from frappe_jobs.background_task.record import CANCELLED, OPEN
from frappe_jobs.frappe_bench.errors import JobError, refusals
from frappe_jobs.frappe_bench.host.session import BenchSession, runtime
from frappe_jobs.frappe_bench.host.task_records import (
    DOCTYPE,
    OURS,
    columns_of,
    frappes_functions,
    is_there,
)
from frappe_jobs.message import to_json


def of_tracked(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, for tracked jobs; of Frappe's own tasks Frappe's is called."""

    @wraps(method)
    def chosen(task: Any, *args: Any, **kwargs: Any) -> Any:
        if task.is_tracked():
            return method(task, *args, **kwargs)
        theirs = getattr(super(TrackedTask, task), method.__name__, None)
        return theirs(*args, **kwargs) if theirs else None

    return chosen


class TrackedTask:
    """The record of a tracked job; its name is its task id."""

    task_id: str
    message_id: str
    user: str
    status: str
    header: str
    arguments: str
    result: str | None
    allow_user_cancellation: bool
    allow_user_retry: bool

    def is_tracked(self) -> bool:
        """Whether it follows a job of ours, and is not of Frappe's own ``enqueue_task``."""
        return frappes_functions() is None or _is_tracked(self)

    def load_from_db(self) -> None:
        """Its values, and what the job says now: while it runs, the record may be behind."""
        super().load_from_db()  # type: ignore[misc]
        if isinstance(self.arguments, dict):  # a field of JSON, which PostgreSQL's driver reads
            self.arguments = to_json(self.arguments)
        self.look()

    def look(self) -> None:
        """Take over what the job says now."""
        if self.status in OPEN and self.is_tracked():
            known = runtime().background_tasks.live(frappe.local.site, [self.message_id])
            cast(Any, self).update(columns_of(known.get(self.message_id, {})))

    @of_tracked
    def cancel(self) -> bool:
        """End the job without its effect: a waiting job never starts, a running job is killed.

        False, and nothing is changed, if it had already ended.  For its user and Administrator.
        """
        with refusals():
            did: bool = runtime().background_tasks.cancel(self, BenchSession())
        self.look()
        if did and self.status in OPEN:  # its job is lost
            self.status = CANCELLED
        return did

    @of_tracked
    def run_again(self) -> Any:
        """Run a job that failed or was cancelled again, when this transaction commits.

        For its user and Administrator; raises JobError if it waits, runs, or is completed.
        """
        with refusals():
            job = runtime().background_tasks.run_again(self, BenchSession())
        self.load_from_db()
        return job

    @of_tracked
    def publish_progress(self, percent: float, stage: str | None = None) -> None:
        """Say how far the job is, per cent, and what it is doing; for the job itself."""
        self._say(percent, stage)

    @of_tracked
    def update_stage(self, stage: str) -> None:
        """Say what the job is doing; for the job itself."""
        self._say(None, stage)

    def _say(self, percent: float | None, stage: str | None) -> None:
        said = runtime().background_tasks.inside.publish(self.task_id, percent, stage)
        cast(Any, self).update(said)

    @of_tracked
    def store_result(self, result: Any) -> None:
        """Keep a result, as JSON, in the job's own transaction; for the job itself.

        What its method returns takes its place, unless that is None.
        """
        self.result = runtime().background_tasks.inside.store(self.task_id, result)

    def validate(self) -> None:
        """Refuse: it says what was sent to a worker, so nobody makes or changes it by hand."""
        before = cast(Any, self).get_doc_before_save()
        if self.is_tracked() or (before and _is_tracked(before)):
            frappe.throw(frappe._("A Background Task is made by enqueue(…, track_job=True)."))

    @of_tracked
    def on_trash(self) -> None:
        """Refuse while the job waits or runs."""
        if self.status in OPEN:
            frappe.throw(
                frappe._("Background Task {0} is {1}: cancel it first.").format(
                    cast(Any, self).name, self.status
                )
            )


class AmongFrappes(TrackedTask):
    """The same in Frappe's own doctype, whose class is extended by this one.

    A class of its own, as a Frappe may extend classes and not have that doctype: then it extends
    our controller, which has the other one already.
    """


def _is_tracked(task: Any) -> bool:
    return bool(task.get(OURS) or task.get("header"))


# --- Frappe's own functions, of 16 and later, also for the tasks of tracked jobs


def get_current_task() -> Any:
    """The Background Task of the job that this code runs in, of either kind; or None."""
    theirs = frappes_functions().get_current_task()
    return theirs or runtime().background_tasks.inside.current()


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def stop_task(task_id: str) -> None:
    """The button Cancel Task."""
    task = _tracked(task_id)
    if task is None:
        frappes_functions().stop_task(task_id)
    elif not task.cancel():
        frappe.throw(
            f"{DOCTYPE} {task_id} is {task.status}; only one that waits or runs stops.", JobError
        )


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def retry_task(task_id: str) -> None:
    """The button Retry Task."""
    task = _tracked(task_id)
    if task is None:
        frappes_functions().retry_task(task_id)
    else:
        task.run_again()


def _tracked(task_id: str) -> Any:
    """The task, if it follows a tracked job."""
    if is_there() and frappe.db.get_value(DOCTYPE, {"task_id": task_id}, OURS):
        return frappe.get_doc(DOCTYPE, task_id)
    return None
