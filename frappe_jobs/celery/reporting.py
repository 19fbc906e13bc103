"""What a worker says of itself in Redis, where anybody looks at it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from frappe_jobs.ledger.reports import Report
from frappe_jobs.runtime import Runtime


def report_of(consumer: Any, runtime: Runtime) -> Report:
    """Of the worker with that consumer."""
    names = {queue.name for queue in getattr(consumer.task_consumer, "queues", ())}
    queues = [
        queue for queue in runtime.settings.queues if runtime.broker.queue_name(queue) in names
    ]
    processes = getattr(getattr(consumer.pool, "_pool", None), "_pool", None) or ()
    pids = [process.pid for process in [*processes]]
    many = consumer.pool.num_processes
    return Report(consumer.hostname, queues, many, memory_of([os.getpid(), *pids]))


def memory_of(pids: Iterable[int]) -> int | None:
    """Bytes of these processes that lie in memory; None where the system does not say."""
    found, page = 0, os.sysconf("SC_PAGE_SIZE")
    for pid in pids:
        try:
            found += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
        except (OSError, IndexError, ValueError):  # it has just ended, or this is no Linux
            continue
    return found or None
