"""Our queues under Frappe's own functions: we replace names that those look up at each call.

``frappe.enqueue`` and all that is built on it stay Frappe's, in every version; so code that has
imported them by name works as well.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

#: The names that we replace in each of Frappe's modules, and in RQ's where a function of Frappe's
#: imports them when it is called.
SEAMS: dict[str, dict[str, str]] = {
    "frappe.utils.background_jobs": {
        "Job": "frappe_jobs.frappe_bench.rq.job:BenchJob",
        "create_job_id": "frappe_jobs.frappe_bench.rq.seam:create_job_id",
        "get_job": "frappe_jobs.frappe_bench.rq.seam:get_job",
        "get_queue": "frappe_jobs.frappe_bench.rq.seam:get_queue",
        "get_queues": "frappe_jobs.frappe_bench.rq.seam:get_queues",
        "get_workers": "frappe_jobs.frappe_bench.rq.seam:get_workers",
        "get_running_jobs_in_queue": "frappe_jobs.frappe_bench.rq.seam:get_running_jobs_in_queue",
        "Worker": "frappe_jobs.frappe_bench.rq.starting:Worker",
        "WorkerPool": "frappe_jobs.frappe_bench.rq.starting:WorkerPool",
        "set_niceness": "frappe_jobs.frappe_bench.rq.starting:set_niceness",
    },
    "frappe.realtime": {
        "publish_progress": "frappe_jobs.frappe_bench.rq.seam:publish_progress",
    },
    # From 16 on it has taken that name when it was imported.
    "frappe": {
        "publish_progress": "frappe_jobs.frappe_bench.rq.seam:publish_progress",
    },
    "frappe.core.doctype.rq_job.rq_job": {
        "Job": "frappe_jobs.frappe_bench.rq.job:BenchJob",
        "Queue": "frappe_jobs.frappe_bench.rq.queue:BenchQueue",
        "get_queues": "frappe_jobs.frappe_bench.rq.seam:get_queues",
        "send_stop_job_command": "frappe_jobs.frappe_bench.rq.job:stop",
    },
    # Stop buttons: of a report, an import, a Background Task of Frappe's own.
    "frappe.core.doctype.prepared_report.prepared_report": {
        "send_stop_job_command": "frappe_jobs.frappe_bench.rq.job:stop",
    },
    "frappe.core.doctype.data_import.data_import": {
        "send_stop_job_command": "frappe_jobs.frappe_bench.rq.job:stop",
    },
    "rq.command": {
        "send_stop_job_command": "frappe_jobs.frappe_bench.rq.job:stop",
    },
    "rq.job": {
        "Job": "frappe_jobs.frappe_bench.rq.job:BenchJob",
    },
    "frappe.core.doctype.rq_worker.rq_worker": {
        "get_workers": "frappe_jobs.frappe_bench.rq.seam:get_workers",
    },
    "frappe.utils.doctor": {
        "get_queue": "frappe_jobs.frappe_bench.rq.seam:get_queue",
        "get_workers": "frappe_jobs.frappe_bench.rq.seam:get_workers",
    },
    "frappe.utils.scheduler": {
        "is_schduler_process_running": "frappe_jobs.frappe_bench.rq.seam:is_scheduler_running",
        "sleep_duration": "frappe_jobs.frappe_bench.rq.starting:sleep_duration",
    },
    "frappe.desk.doctype.system_health_report.system_health_report": {
        "get_queue": "frappe_jobs.frappe_bench.rq.seam:get_queue",
        "is_schduler_process_running": "frappe_jobs.frappe_bench.rq.seam:is_scheduler_running",
    },
}

#: Modules that are imported later take names from these, so these are imported first.
SOURCES = ("frappe.utils.background_jobs", "frappe.utils.scheduler", "rq.command", "rq.job")

#: Every Frappe looks these up for each job: one that is not ours means that jobs go to RQ.
NEEDED = ("frappe.utils.background_jobs", ("get_queue", "get_job"))

#: Frappe's own, to be put back.
_originals: dict[tuple[str, str], Any] = {}


def install() -> None:
    """Put our queues under Frappe's functions in this process; a second call changes nothing."""
    for name in SOURCES:
        import_module(name)
    install_in_what_is_loaded()


def install_look_up() -> None:
    """Have Frappe's look for a job find ours, too; what is enqueued still goes to RQ."""
    name = "frappe.utils.background_jobs"
    _replace(import_module(name), "get_job", SEAMS[name]["get_job"])


def install_in_what_is_loaded() -> None:
    """Do so in those of Frappe's modules that are already imported.

    Raises the first error once all names are replaced that can be.
    """
    errors: list[Exception] = []
    for name, seams in SEAMS.items():
        if module := sys.modules.get(name):
            for attribute, path in seams.items():
                try:
                    _replace(module, attribute, path)
                except Exception as error:
                    errors.append(error)
    if errors:
        raise errors[0]


def _replace(module: Any, attribute: str, path: str) -> None:
    if (module.__name__, attribute) in _originals or not hasattr(module, attribute):
        return
    where, _, name = path.partition(":")
    ours = getattr(import_module(where), name)
    _originals[module.__name__, attribute] = getattr(module, attribute)
    setattr(module, attribute, ours)


def uninstall() -> None:
    """Put back Frappe's own: from now on this process's jobs go to RQ."""
    for (name, attribute), original in _originals.items():
        setattr(sys.modules[name], attribute, original)
    _originals.clear()


def frappes(module: str, attribute: str) -> Any:
    """Frappe's own, whether we have replaced it here or not."""
    return _originals.get((module, attribute)) or getattr(sys.modules[module], attribute)


def missing() -> list[str]:
    """Of the names that each job needs, those that are still Frappe's own in this process."""
    module, names = NEEDED
    return [f"{module}.{name}" for name in names if (module, name) not in _originals]


def is_installed() -> bool:
    """Whether this process's jobs go to Celery."""
    return ("frappe.utils.background_jobs", "get_queue") in _originals
