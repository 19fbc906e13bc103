"""A job that a worker has taken ahead (Redis): it begins soon, or goes to whoever is free.

A worker with one process hands the next message to it while a short job runs, so that the process
finds it at once.  Should that job go on for longer, the message is put back before the others of
its site, where any worker finds it.  The copy that the process holds is refused by the step that
begins a job: its worker no longer holds it.  That step also refuses to pass an at-front job, or a
pause.

Celery would keep the message to itself until the process is free: its semaphore lets as many pass
as there are processes, and its strategy "fair" writes to none that is busy.  So a worker that takes
ahead lets one more pass, and writes without looking; it has only one process to write to.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from celery.concurrency.prefork import TaskPool

from frappe_jobs.celery.step import ConsumerStep

#: Seconds that a message waits for this worker's process before others may take it.
WAIT = 0.05


def takes_ahead(pool: Any) -> bool:
    """Whether a worker with that pool may do so: with more processes, its parent has no rest."""
    return isinstance(pool, TaskPool) and pool.limit == 1


class TakenAhead:
    """The requests that this worker has taken ahead, each for a moment."""

    def __init__(self) -> None:
        #: In the order in which they came, with the time after which each is put back.
        self._requests: deque[tuple[float, Any]] = deque()
        #: When they are looked at next: rarely, as a timer costs about as much as a message.
        self._looks_at = 0.0

    def note(self, request: Any, timer: Any) -> None:
        """Put it back soon, unless it has begun by then."""
        now = time.monotonic()
        self._requests.append((now + WAIT, request))
        if self._looks_at <= now:  # also where Celery has dropped its timers
            self._look_in(WAIT, timer)

    def give_back(self) -> None:
        """Put back what has not begun."""
        while self._requests:
            _give_back(self._requests.popleft()[1])

    def _look_in(self, seconds: float, timer: Any) -> None:
        self._looks_at = time.monotonic() + seconds
        timer.call_after(seconds, self._look, (timer,))

    def _look(self, timer: Any) -> None:
        try:
            while self._requests and self._requests[0][0] <= time.monotonic():
                _give_back(self._requests.popleft()[1])
        finally:
            if self._requests:
                self._look_in(WAIT / 2, timer)


def _give_back(request: Any) -> None:
    if request.time_start or request.acknowledged:
        return
    request.message.channel.qos.ahead.waits()
    request.reject(requeue=True)


taken_ahead = TakenAhead()


class TakeAhead(ConsumerStep):
    """Let one message more than there are processes pass to the pool."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = takes_ahead(consumer.pool)
        self._has_grown = False

    def start(self, consumer: Any) -> None:
        take = getattr(consumer.connection.transport, "take", None)
        if take is not None and take.is_ahead and not self._has_grown:
            self._has_grown = True
            consumer.controller.semaphore.grow(1)
