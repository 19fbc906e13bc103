"""Bare Celery: one task, Redis for its messages and its results."""

from __future__ import annotations

import time
from uuid import uuid4

from celery import Celery, Task

from benchmarks.contenders.url import URL
from benchmarks.tasks import ARGUMENTS, noop, stamp

app = Celery("benchmarks", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_default_queue="benchmarks:default",
    task_default_priority=6,
    result_expires=600,
    broker_connection_retry_on_startup=True,
)

#: As ours travel: the envelope is a header, the arguments are the one positional argument.
HEADERS = {
    "frappe_jobs": {
        "version": 1, "id": str(uuid4()), "job_id": str(uuid4()), "site": "site1",
        "user": "Administrator", "method": "benchmarks.tasks.noop", "queue": "default",
        "name": "benchmarks.tasks.noop", "timeout": 300, "enqueued_at": time.time(),
        "at_front": False,
    }
}  # fmt: skip


@app.task(name="benchmarks.noop")
def task(arguments: dict) -> int:
    return noop(**arguments)


@app.task(name="benchmarks.stamp")
def stamping(arguments: dict) -> None:
    stamp(**arguments)


def enqueue(count: int) -> None:
    for _ in range(count):
        _send(task, ARGUMENTS)


def enqueue_stamp(address: str) -> None:
    _send(stamping, {"address": address})


def _send(task: Task, arguments: dict) -> None:
    task.apply_async(
        args=(arguments,),
        queue="benchmarks:default",
        priority=6,
        shadow="benchmarks.tasks.noop",
        soft_time_limit=300,
        time_limit=310,
        headers=HEADERS,
    )


def enqueue_plain(count: int) -> None:
    for _ in range(count):
        task.apply_async(args=(ARGUMENTS,))
