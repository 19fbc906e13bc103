"""Frappe's background jobs on Celery: ``import frappe_jobs as frappe``.

Each name is loaded when it is first used, so that ``frappe-jobs --help`` and an app's ``hooks.py``
need not wait for Celery and SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frappe_jobs.api import (
        enqueue,
        enqueue_at,
        enqueue_doc,
        enqueue_in,
        enqueue_many,
        get_all,
        get_current_job,
        get_doc,
        get_job,
        get_job_status,
        get_jobs,
        get_queues_timeout,
        get_recent_tasks,
        is_job_enqueued,
        new_doc,
        publish_progress,
        resume,
        site,
        step,
    )
    from frappe_jobs.api.task_queue import (
        enqueue_task,
        get_current_task,
        get_task_status,
        retry_task,
        stop_task,
    )
    from frappe_jobs.context import conf, db, local, session
    from frappe_jobs.errors import FrappeJobsError, JobFailed, JobTimeout, RetryBackgroundJobError
    from frappe_jobs.job import Job
    from frappe_jobs.message import Retry
    from frappe_jobs.methods import register
    from frappe_jobs.standalone.document import Document

__version__ = "0.1.0.dev0"

_ROOMS = {
    "api": (
        # Send
        "enqueue", "enqueue_at", "enqueue_doc", "enqueue_in", "enqueue_many",
        # Look
        "get_job", "get_job_status", "get_jobs", "get_queues_timeout", "get_recent_tasks",
        "is_job_enqueued",
        # In a job
        "get_current_job", "publish_progress", "step", "resume",
        # Sites and documents
        "site", "get_doc", "new_doc", "get_all",
    ),
    "api.task_queue": (
        "enqueue_task", "get_current_task", "get_task_status", "retry_task", "stop_task",
    ),
    "context": ("conf", "db", "local", "session"),
    "standalone.document": ("Document",),
    "job": ("Job",),
    "message": ("Retry",),
    "methods": ("register",),
    "errors": ("FrappeJobsError", "JobFailed", "JobTimeout", "RetryBackgroundJobError"),
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Document", "FrappeJobsError", "Job", "JobFailed", "JobTimeout", "Retry",
    "RetryBackgroundJobError", "conf", "db", "enqueue", "enqueue_at", "enqueue_doc", "enqueue_in",
    "enqueue_many", "enqueue_task", "get_all", "get_current_job", "get_current_task", "get_doc",
    "get_job", "get_job_status", "get_jobs", "get_queues_timeout", "get_recent_tasks",
    "get_task_status", "is_job_enqueued", "local", "new_doc", "publish_progress", "register",
    "resume", "retry_task", "session", "site", "step", "stop_task",
]  # fmt: skip


if not TYPE_CHECKING:  # who checks types is told of a name that is not there

    def __getattr__(name: str) -> Any:
        if name not in _ROOM_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"frappe_jobs.{_ROOM_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    """The API: what Tab shows in a shell."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
