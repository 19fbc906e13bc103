"""Drop Celery's timers of jobs that have ended, which would stay until each job's timeout.

At 800 jobs a second and a timeout of 300 s that makes 240,000 timers, and 130 MB.
"""

from __future__ import annotations

from typing import Any

from kombu.asynchronous.timer import Timer

from frappe_jobs.celery.step import ConsumerStep

#: Seconds between two looks; the worker's loop wakes that often anyway.
INTERVAL = 2.0


class DropTimers(ConsumerStep):
    """Have the worker's loop drop them while it runs."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None
        self.enabled = isinstance(consumer.timer, Timer)  # other pools' timers have no loop

    def start(self, consumer: Any) -> None:
        self._timer = consumer.timer.call_repeatedly(INTERVAL, drop_cancelled, (consumer.timer,))

    def stop(self, consumer: Any) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def drop_cancelled(timer: Timer) -> None:
    """Keep only the timers that have still to go off; called by the loop that owns them."""
    waiting = [event for event in timer.queue if not event.entry.canceled]
    timer.clear()
    for eta, priority, entry in waiting:
        timer.enter_at(entry, eta, priority)
