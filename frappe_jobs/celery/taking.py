"""How a worker takes messages from RabbitMQ: by hand, and only what it can run at once.

RabbitMQ's prefetch cannot say "this many of all my queues together": from 4.0 on that is
deprecated, 4.3 silently takes it for "of each queue", and messages that wait for their time
(retries) count as well.  So nothing is prefetched.  A worker with a free process fetches from the
earliest queue that has a message.  When all are empty, it consumes, to be told of the next message;
it runs that, and fetches again.

Only this module uses these, which have no public interface in Celery and kombu: the worker's loop
compares ``consumer.qos``'s two values in each round, and calls its ``update`` if they differ;
``Consumer._receive_callback`` and ``_basic_consume``; whether a worker's pool is free
(``state.reserved_requests``).
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

from celery.utils.time import maybe_iso8601
from celery.worker import state
from kombu.common import QoS

from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.celery.stopping import stopping
from frappe_jobs.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

#: How many messages are fetched before the worker's loop goes on: waiting retries set no limit.
ROUND = 25


class Taking(QoS):
    """Takes the place of the worker's prefetch count, which its loop keeps up to date."""

    def __init__(self, consumer: Any) -> None:
        super().__init__(None, 0)  # type: ignore[no-untyped-call]
        self._consumer = consumer
        #: A message came by consuming since the last look.
        self._was_told = False
        #: The broker's names of queues of which nothing is taken now; None: not known yet.
        self._paused: frozenset[str] | None = None

    #: Celery's loop calls ``update`` when this and ``value`` differ.
    prev = False

    @property
    def value(self) -> bool:
        """Whether there is something to do."""
        if not self.has_room:
            return self._consumes
        return self._was_told or not self._consumes

    @value.setter
    def value(self, count: int) -> None:
        """Ignored: Celery's own count does not matter here."""

    def increment_eventually(self, n: int = 1) -> int:
        return 0

    def decrement_eventually(self, n: int = 1) -> int:
        return 0

    @property
    def has_room(self) -> bool:
        """Whether a job that came now would run at once."""
        busy = len(state.reserved_requests)
        return busy < self._consumer.pool.num_processes and not stopping.told

    @property
    def _consumes(self) -> bool:
        tasks = self._consumer.task_consumer
        return any(map(tasks.consuming_from, tasks.queues))

    def pause(self, paused: frozenset[str]) -> None:
        """Take nothing of these queues from the next look on; called by another thread."""
        if paused != self._paused:
            self._paused, self._was_told = paused, True

    def accepts(self, message: Any) -> bool:
        """Whether a message that came may be handled; if not, it is put back into its queue."""
        if "consumer_tag" in message.delivery_info:  # RabbitMQ sent it by itself
            self._was_told = True
            if not self.has_room or self._is_paused(message.delivery_info.get("routing_key")):
                message.requeue()
                return False
        return True

    def update(self) -> None:
        """Stop consuming; fetch while a process is free; consume once the queues are empty."""
        tasks = self._consumer.task_consumer
        tasks.cancel()
        self._was_told = False
        for _ in range(ROUND):
            if not self.has_room:
                return
            if not self._fetch(tasks):
                self._consume(tasks)
                return
        self._consumer.timer.call_after(0, lambda: None)  # the loop comes back without a pause

    def _fetch(self, tasks: Any) -> bool:
        """Take a message from the first queue that has any; False if they are all empty."""
        for queue in self._open(tasks):
            if message := tasks.channel.basic_get(queue=queue.name):
                tasks._receive_callback(message)
                return True
        return False

    def _open(self, tasks: Any) -> list[Any]:
        return [queue for queue in tasks.queues if not self._is_paused(queue.name)]

    def _is_paused(self, queue: object) -> bool:
        return self._paused is None or queue in self._paused

    def _consume(self, tasks: Any) -> None:
        for queue in self._open(tasks):
            tasks._basic_consume(queue, no_ack=tasks.no_ack, nowait=False)


class TakeByHand(ConsumerStep):
    """Have a worker on RabbitMQ take its messages by hand, if it runs Celery's loop."""

    def start(self, consumer: Any) -> None:
        if takes_by_hand(consumer, consumer.connection):
            consumer.qos = Taking(consumer)
            consumer.task_consumer.qos(prefetch_count=1)
            try:
                mind_pauses(consumer)
            except BrokerUnavailable as error:  # asked again about each second
                logger.error("nothing is taken until it is known what is paused: %s", error)


def mind_pauses(consumer: Any) -> None:
    """Have the worker take nothing of what is paused by now; raises BrokerUnavailable."""
    if isinstance(consumer.qos, Taking):
        runtime = runtime_of(consumer.app)
        paused = map(runtime.broker.queue_name, runtime.ledger.paused_queues())
        consumer.qos.pause(frozenset(paused))


def takes_by_hand(consumer: Any, connection: Any) -> bool:
    """Whether the worker can do so: from RabbitMQ, and in a loop that its processes wake."""
    return consumer.hub is not None and connection.transport.driver_type == "amqp"


def without_time_that_has_come(message: Any) -> None:
    """Have Celery run a message whose time has come at once, and not a little later.

    Meanwhile the worker would fetch another message for its free process.
    """
    eta = message.headers.get("eta")
    try:
        when = maybe_iso8601(eta)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return  # Celery refuses it
    if when is None:
        return
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    if when <= datetime.now(timezone.utc):
        message.headers = message.headers | {"eta": None}
