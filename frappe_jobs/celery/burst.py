"""``--burst``: a worker that ends when there is nothing left to do."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from celery.worker import state

from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.held import is_idle
from frappe_jobs.celery.mover import Mover
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.celery.sweeper import Sweeper
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.runtime import Runtime

logger = logging.getLogger(__name__)

#: Seconds between two looks. It takes two looks: a message on its way here is in no queue.
INTERVAL = 0.2
LOOKS = 2


class Burst(ConsumerStep):
    """Stop the worker once its queues are empty and all that it took is done, retries included."""

    def __init__(self, consumer: Any, burst: bool = False, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = burst
        self._empty = 0

    def start(self, consumer: Any) -> None:
        self._empty = 0
        consumer.timer.call_repeatedly(INTERVAL, self._look, (consumer,))

    def _look(self, consumer: Any) -> None:
        self._empty = self._empty + 1 if is_idle(consumer) and _is_empty(consumer) else 0
        # From here on this worker sends nothing more that it would leave behind.
        if self._empty >= LOOKS and Sweeper.turn.acquire(blocking=False):
            if Mover.turn.acquire(blocking=False):
                if _is_empty(consumer):
                    _say_what_is_left(consumer)
                    state.should_stop = 0
                    return
                Mover.turn.release()
            Sweeper.turn.release()


def _served(consumer: Any) -> list[str]:
    """The bench's queues that this worker serves."""
    runtime = runtime_of(consumer.app)
    consumed = {queue.name for queue in consumer.task_consumer.queues}
    named = runtime.broker.queue_name
    return [queue for queue in runtime.settings.queues if named(queue) in consumed]


def _say_what_is_left(consumer: Any) -> None:
    try:
        left = runtime_of(consumer.app).ledger.count_delayed(_served(consumer))
    except BrokerUnavailable:
        return
    if left.delayed or left.limited:
        logger.warning(
            "its work is done; jobs that are not due yet: %s, that a limit holds back: %s",
            f"{left.delayed:,}", f"{left.limited:,}",
            extra={"action": "burst_ended", "delayed": left.delayed, "limited": left.limited},
        )  # fmt: skip


def _is_empty(consumer: Any) -> bool:
    """Whether nothing of its queues is on the broker, or waits to be tried again."""
    runtime, ours = runtime_of(consumer.app), _served(consumer)
    try:
        if runtime.ledger.count_delayed(ours).retrying:
            return False
        waiting = sum(map(runtime.broker.depth, ours))
        paused = _paused(runtime, ours) if waiting else 0
    except BrokerUnavailable as error:  # the worker waits for the broker, and so do we
        logger.debug("it is not known whether the queues are empty: %s", error)
        return False
    if paused and waiting <= paused:
        logger.info("%s jobs are left, which are paused", paused)
    return waiting <= paused


def _paused(runtime: Runtime, queues: Iterable[str]) -> int:
    """How many of the jobs that wait there nobody takes."""
    whole = runtime.ledger.paused_queues()
    return sum(runtime.broker.held_back(queue, is_paused=queue in whole) for queue in queues)
