"""Our functions that take the place of Frappe's, with the same names and signatures.

Every process of the bench imports this: what needs Celery is loaded when something is enqueued.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from importlib import import_module
from typing import Any

import frappe
from frappe import realtime
from frappe.utils import background_jobs
from rq.exceptions import NoSuchJobError
from rq.job import JobStatus

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.frappe_bench.rq.transport import frappes, install_in_what_is_loaded
from frappe_jobs.sites_folder import DRAINING, OFF

logger = logging.getLogger(__name__)

#: Frappe's own enqueue: with deduplicate it first looks whether such a job waits or runs.
ENQUEUE = background_jobs.enqueue.__code__

#: Frappe's own create_job_id.
spell = background_jobs.create_job_id

#: Frappe's own publish_progress, which tells the browser.
tell = realtime.publish_progress


def get_queue(qtype: str, is_async: bool = True) -> Any:
    """The queue; raises Frappe's ValidationError if it does not exist.

    During a migrate it raises redis-py's ConnectionError if no job can be sent: Frappe's enqueue
    then calls the method itself.
    """
    local = frappe.local  # its own are at hand; frappe.conf and frappe.flags look each time
    if local.conf.get(OFF):  # since this process began
        return frappes("frappe.utils.background_jobs", "get_queue")(qtype, is_async)
    background_jobs.validate_queue(qtype)
    if local.flags.in_migrate:
        _room("rq.queue").require_broker()
    caller = sys._getframe(1)
    if is_async and caller.f_code is ENQUEUE and caller.f_locals.get("enqueue_after_commit"):
        _room("rq.at_commit").see_to_calls()
    return _room("rq.queue").BenchQueue(qtype, is_async)


class MadeId(str):
    """An id that Frappe made, as its caller gave none: no other job has it."""


def create_job_id(job_id: str | None = None) -> str:
    """As Frappe spells the id; one that is made says so."""
    spelled: str = spell(job_id)
    return spelled if job_id else MadeId(spelled)


def get_queues(connection: Any = None) -> list[Any]:
    """All queues of the bench."""
    install_in_what_is_loaded()
    return [_room("rq.queue").BenchQueue(name) for name in background_jobs.get_queues_timeout()]


def get_job(job_id: str) -> Any:
    """The newest job of that id on the open site, one that waits or runs first; or None."""
    if sys._getframe(1).f_code is ENQUEUE:
        _room("rq.queue").note_look_up(job_id)
    found = _found(background_jobs.create_job_id(job_id))
    return next(filter(_is_open, found), None) or (found[0] if found else None)


def _found(name: str) -> list[Any]:
    """The jobs of that id: where jobs go now, and while the bench is switched where they went."""
    looks = [_room("rq.queue").BenchQueue("default").fetch_job, _on_rq]
    if frappe.conf.get(OFF):
        looks.reverse()
    if not frappe.conf.get(DRAINING):
        del looks[1]
    return [job for look in looks if (job := look(name))]


def _on_rq(name: str) -> Any:
    """RQ's own job of that id; None if there is none."""
    try:
        return frappes("frappe.utils.background_jobs", "Job").fetch(
            name, connection=background_jobs.get_redis_conn()
        )
    except NoSuchJobError:
        return None


def _is_open(job: Any) -> bool:
    return job.get_status() in (JobStatus.QUEUED, JobStatus.STARTED)


def get_workers(queue: Any = None) -> list[Any]:
    """The online workers of that queue, or of the whole bench."""
    found: list[Any] = _room("rq.workers").workers(queue)
    return found


def get_running_jobs_in_queue(queue: Any) -> list[Any]:
    """The jobs of that queue that run now, of all sites."""
    found: list[Any] = _room("rq.workers").running([queue.name.rpartition(":")[2]])
    return found


def is_scheduler_running() -> bool:
    """Whether a scheduler leads, on any machine; Frappe would look at a lock on this machine."""
    return _room("host.session").runtime().timetable.leader() is not None


def publish_progress(
    percent: float,
    title: str | None = None,
    doctype: str | None = None,
    docname: Any = None,
    description: str | None = None,
    task_id: str | None = None,
) -> None:
    """Like Frappe's; and the progress of the job that runs here is noted."""
    tell(percent, title, doctype, docname, description, task_id)
    if "frappe_jobs.execute" not in sys.modules:  # no job of ours runs here
        return
    try:
        import_module("frappe_jobs.api").publish_progress(
            percent, description or title, doctype=doctype, docname=docname
        )
    except (FrappeJobsError, TypeError, ValueError) as error:  # Frappe's raises nothing either
        logger.debug("progress %r is not noted: %s", percent, error)


@cache
def _room(name: str) -> Any:
    return import_module(f"frappe_jobs.frappe_bench.{name}")
