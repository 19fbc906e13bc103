"""Code that uses RQ directly, past the names under which a bench's code finds our queues."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from frappe_jobs.doctor.scan.calls import Problem
from frappe_jobs.doctor.scan.names import Scope, imported_from

JOBS = "frappe.utils.background_jobs"
#: Under these names code finds ours, if it looks them up at each call.
LOOKED_UP = {
    "Job", "get_job", "get_queue", "get_queues", "get_workers", "get_running_jobs_in_queue",
}  # fmt: skip
#: Always RQ's own.
RQS_OWN = {
    "Queue", "Worker", "WorkerPool", "get_redis_conn", "get_redis_connection_without_auth",
    "start_worker", "start_worker_pool", "truncate_failed_registry",
}  # fmt: skip
#: What means the same on Celery: the error at a job's timeout, other errors, the running job.
SAME = ("rq.timeouts", "rq.exceptions", "rq.get_current_job", "rq.job.get_current_job")

ASK_US = "Ask frappe_jobs (get_jobs, get_job, get_current_job), or the RQ Job and RQ Worker pages."


def past_the_seam(node: ast.AST, scope: Scope) -> Iterator[Problem]:
    """RQ's things that this import, or this attribute, uses instead of our queues."""
    if isinstance(node, ast.ImportFrom):
        origin = imported_from(node, scope.module, is_package=scope.is_package)
        for alias in node.names:
            yield from _imported(f"{origin}.{alias.name}", node.lineno)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
        yield from _used(scope.path(node), scope.path(node.value), node.lineno)


def _imported(path: str, line: int) -> Iterator[Problem]:
    where, _, name = path.rpartition(".")
    if _is_rqs(path):
        yield Problem(line, f"{path} is imported: it sees only RQ's jobs, none of ours.", ASK_US)
    elif where == JOBS and name in RQS_OWN:
        what = f"{name} is imported from {JOBS}: it is RQ's, and sees none of our jobs."
        yield Problem(line, what, ASK_US)
    elif where == JOBS and name in LOOKED_UP:
        what = f"{name} is imported by name: it stays RQ's if no site was opened before."
        cure = f"Import {JOBS} as background_jobs, and call background_jobs.{name}."
        yield Problem(line, what, cure)


def _used(path: str, owner: str, line: int) -> Iterator[Problem]:
    """``rq.Queue`` is reported once, also in ``rq.Queue.all``; a mere module of RQ is not."""
    where, _, name = path.rpartition(".")
    is_class = where.partition(".")[0] == "rq" and name[:1].isupper()
    if (
        is_class
        and owner == where
        and _is_rqs(path)
        and not any(part[:1].isupper() for part in where.split("."))
    ):
        yield Problem(line, f"{path} is used: it sees only RQ's jobs, none of ours.", ASK_US)
    elif where == JOBS and name in RQS_OWN:
        what = f"{path} is used: it is RQ's, and sees none of our jobs."
        yield Problem(line, what, ASK_US)


def _is_rqs(path: str) -> bool:
    same = any(path == name or path.startswith(f"{name}.") for name in SAME)
    return path.partition(".")[0] == "rq" and not same
