"""The names that the transport replaces, and an enqueue that uses them as Frappe's does."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import frappe

NAMES = ("short", "default", "long")


class Job:
    """RQ's, here of nobody's."""


def get_queues_timeout() -> dict[str, int]:
    return dict.fromkeys(NAMES, 300)


def validate_queue(queue: str, default_queue_list: Any = None) -> None:
    if queue not in NAMES:
        raise frappe.ValidationError(f"Queue should be one of {', '.join(NAMES)}")


def create_job_id(job_id: str | None) -> str:
    return f"{frappe.local.site}::{job_id or uuid4()}"


def execute_job(**call: Any) -> Any:
    """What RQ's workers run; under ours it is only named."""
    return frappe.get_attr(call["method"])(**call["kwargs"])


def truncate_failed_registry(*_: Any) -> None:
    """The default of on_failure."""


def _rqs(*_: Any, **__: Any) -> Any:
    raise AssertionError("RQ was asked")


get_job = get_queue = get_queues = get_workers = get_running_jobs_in_queue = _rqs


def enqueue(
    method: Any, job_id: str | None = None, deduplicate: bool = False, queue: str = "default",
    is_async: bool = True, **arguments: Any,
) -> Any:  # fmt: skip
    """What Frappe 15.50's enqueue asks of its queue, as it was recorded there."""
    if deduplicate:
        job = get_job(str(job_id))
        if job and job.get_status() in ("queued", "started"):
            return None
        if job:
            job.delete()
    call = {
        "site": frappe.local.site, "user": "Administrator", "method": method, "event": None,
        "job_name": method if isinstance(method, str) else method.__qualname__,
        "is_async": is_async, "kwargs": arguments,
    }  # fmt: skip
    job_id = create_job_id(job_id)
    to = get_queue(queue, is_async=is_async)
    if (limit := frappe.conf.get("max_queued_jobs")) and to.count >= limit:
        raise frappe.ValidationError("Too many queued background jobs")

    # A function inside, as in Frappe: enqueue_after_commit has it wait.
    def enqueue_call() -> Any:
        return to.enqueue_call(
            execute_job, on_success=None, on_failure=truncate_failed_registry, timeout=300,
            kwargs=call, at_front=False, failure_ttl=604800, result_ttl=600, job_id=job_id,
        )  # fmt: skip

    return enqueue_call()
