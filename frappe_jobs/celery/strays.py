"""Processes of the pool that went astray are killed, and Celery starts others.

When a connection is lost Celery forgets what it has written to a process that has not said yet that
it begins (``AsynPool.flush``).  Nobody would renew the lease of such a run, or end it at its
timeout.  And a process may begin nothing, or not have been heard as it said that it is up.

Only this module uses these, which have no public interface: ``AsynPool._cache``, its
``_result_handler``'s ``state_handlers``, ``ApplyResult._accepted`` and ``_job``; as others do,
``TaskPool._pool`` and its ``_pool``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from billiard.pool import ACK
from celery.concurrency.prefork import TaskPool

from frappe_jobs.celery.processes import end
from frappe_jobs.celery.step import ConsumerStep

logger = logging.getLogger(__name__)

#: Seconds between two looks at the jobs that wait for a process.
INTERVAL = 5.0
#: At so many looks, one after the other, a job has waited for a process that does nothing.  Looks,
#: not seconds: while the loop stands still it hears of no beginning.
LOOKS = 3


class Strays(ConsumerStep):
    """Hear who begins what, and look for those that begin nothing."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = isinstance(consumer.pool, TaskPool) and bool(consumer.hub)
        self._hears = False
        #: At how many looks a job waited, or a process did nothing.
        self._waits: Counter[int] = Counter()
        self._idles: Counter[int] = Counter()

    def start(self, consumer: Any) -> None:
        pool = consumer.pool._pool
        if not self._hears:
            self._hears = True
            _hear(pool)
        consumer.timer.call_repeatedly(INTERVAL, self._look, (pool,))

    def _look(self, pool: Any) -> None:
        jobs = [*pool._cache.values()]
        busy = {pid for job in jobs if job._accepted for pid in job.worker_pids()}
        self._waits = _again(self._waits, (job._job for job in jobs if not job._accepted))
        self._idles = _again(self._idles, {process.pid for process in pool._pool} - busy)
        if max(self._waits.values(), default=0) < LOOKS:
            return
        for pid, looks in self._idles.items():
            if looks >= LOOKS:
                logger.error("process %s is killed: it does not begin the job that waits", pid)
                end(pid, time.time())  # what earlier jobs have left on purpose stays


def _again(before: Counter[int], found: Iterable[int]) -> Counter[int]:
    """The counts of what is found, one more than before."""
    return Counter({one: before[one] + 1 for one in found})


def _hear(pool: Any) -> None:
    """Kill a process that begins what this worker has forgotten: nobody keeps its lease."""
    handlers = pool._result_handler.state_handlers
    accept = handlers[ACK]

    def accepted(job: int, *more: Any) -> None:
        if job in pool._cache:
            accept(job, *more)
            return
        _, time_accepted, pid, _ = more  # by the monotonic clock
        if end(pid, time.time() - (time.monotonic() - time_accepted)):
            logger.error("process %s is killed: it began a job that was forgotten with the "
                         "connection", pid)  # fmt: skip

    handlers[ACK] = accepted
