"""Celery's remote control: how a worker gets commands and questions, and how it answers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import celery.app.control
import kombu.pidbox

from frappe_jobs.celery.publisher import Publisher


class Mailbox(kombu.pidbox.Mailbox):
    """Celery's mailbox, but no main loop waits for its answers."""

    #: Set in a worker; None in other processes.
    publisher: Publisher | None = None
    #: Whether the broker is RabbitMQ.
    is_amqp = False

    def get_queue(self, hostname: str) -> Any:
        """A worker's own queue; on RabbitMQ a new queue for each connection.

        For minutes after a cut RabbitMQ keeps the connection that the worker has given up, and with
        it the queue: locked, or still delivering half of its messages to that connection.
        """
        name = f"{hostname}.{uuid4().hex[:8]}" if self.is_amqp else hostname
        get_queue: Any = super().get_queue
        return get_queue(name)

    def _publish_reply(
        self,
        reply: Any,
        exchange: Any,
        routing_key: Any,
        ticket: Any,
        channel: Any = None,
        producer: Any = None,
        **options: Any,
    ) -> None:
        answer: Any = super()._publish_reply
        if self.publisher is None:
            answer(reply, exchange, routing_key, ticket, channel, producer, **options)
            return

        def send(producer: Any) -> None:
            answer(
                reply, exchange, routing_key, ticket, producer.channel, _Once(producer), **options
            )

        self.publisher.put(send)


class _Once:
    """A producer that tries once, where kombu would try for ever."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def publish(self, *arguments: Any, retry: bool = False, **options: Any) -> None:
        self._producer.publish(*arguments, **options)


class Control(celery.app.control.Control):  # type: ignore[misc]
    """Celery's remote control, with that mailbox."""

    Mailbox = Mailbox
