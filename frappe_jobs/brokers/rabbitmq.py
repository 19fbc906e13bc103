"""RabbitMQ as the broker: classic queues with two priorities; the ledger knows what waits there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kombu.common import maybe_declare
from kombu.exceptions import OperationalError

from frappe_jobs.brokers.base import Alarm, BrokerServer, Recorder, refuse_while_blocked
from frappe_jobs.brokers.confirms import confirmed_together
from frappe_jobs.brokers.kombu import QUESTION_TIMEOUT, RETRY_POLICY, KombuBroker
from frappe_jobs.message import Message, Sending
from frappe_jobs.tracing import going_on

#: No queue has this name: a message for it is confirmed, and goes nowhere.
NOWHERE = "frappe_jobs.nowhere"
#: Seconds within which RabbitMQ confirms a message that goes nowhere, unless it takes none.
CONFIRM_NOTHING = 1.0
#: Seconds within which it must confirm a job.
CONFIRM_TIMEOUT = 5.0


class RabbitBroker(KombuBroker):
    """RabbitMQ takes the highest number first; within one priority, first in, first out."""

    is_searchable = False
    at_front = 1
    ordinary = 0
    together = 500  # it takes its time to confirm them, however many they are

    # RabbitMQ does not even close a connection that it has blocked.
    limits = {
        "read_timeout": QUESTION_TIMEOUT,
        "write_timeout": QUESTION_TIMEOUT,
        "on_blocked": refuse_while_blocked,
    }

    def options(self, message: Message) -> dict[str, Any]:
        # We make the attempts (_send).
        return {**super().options(message), "confirm_timeout": CONFIRM_TIMEOUT, "retry": False}

    def send_again(self, messages: Sequence[Message]) -> None:
        if len(messages) < 2:
            return super().send_again(messages)
        left = {message.id: message for message in messages}
        with self._producer() as producer:
            self._attempt(producer, lambda: self._send_together(left, producer, []))

    def _send(self, message: Message, producer: Any, **options: Any) -> None:
        send = super()._send
        self._attempt(producer, lambda: send(message, producer, **options))

    def _send_all(
        self, sendings: Iterable[Sending], producer: Any, sent: list[Message], recorder: Recorder
    ) -> None:
        chunk = [*sendings]
        if len(chunk) < 2:
            return super()._send_all(chunk, producer, sent, recorder)
        left = {sending.message.id: sending.message for sending in chunk}
        before = len(sent)
        try:
            self._attempt(producer, lambda: self._send_together(left, producer, sent))
        finally:
            recorder.sent(sent[before:])

    def _send_together(self, left: dict[str, Message], producer: Any, sent: list[Message]) -> None:
        """Have RabbitMQ confirm all of them; those that it has go from ``left`` to ``sent``."""
        declared = set[str]()
        with confirmed_together(producer.connection) as confirms:
            alone = producer.__class__(confirms.channel)
            try:
                for message in [*left.values()]:
                    if message.queue not in declared:  # a refusal would close the messages' channel
                        confirms.wait(CONFIRM_TIMEOUT)
                        queue = self._queues[self.queue_name(message.queue)]
                        maybe_declare(queue, producer.channel)
                        declared.add(message.queue)
                    confirms.sends(message.id)
                    with going_on(message):
                        super()._send(message, alone)
                confirms.wait(CONFIRM_TIMEOUT)
            finally:
                sent.extend(left.pop(one) for one in confirms.confirmed)

    def _attempt(self, producer: Any, send: Callable[[], None]) -> None:
        """Attempts like kombu's own, but an alarm ends them at once."""

        def attempt() -> None:
            try:
                send()
            except OperationalError as error:  # Celery's name for each of them
                if not isinstance(error.__cause__, TimeoutError):
                    raise error.__cause__ or error from None
                raise Alarm from None
            except TimeoutError:
                raise Alarm from None

        producer.connection.ensure(producer, attempt, **RETRY_POLICY)()

    def lost(self, messages: Sequence[Message]) -> list[Message]:
        return []

    def discard(self, messages: Sequence[Message]) -> set[str]:
        """RabbitMQ cannot be searched: the worker drops the messages by their records."""
        return set()

    def _server(self, connection: Any) -> BrokerServer:
        # RabbitMQ tells only a connection that sends of its alarms.
        said = connection.connection.server_properties
        name = f"{said.get('product', 'AMQP')} {said.get('version', '')}".rstrip()
        channel = connection.default_channel
        try:
            channel.basic_publish_confirm(
                channel.prepare_message(b"?"), routing_key=NOWHERE, confirm_timeout=CONFIRM_NOTHING
            )
        except (socket.timeout, Alarm):
            connection.connection.collect()  # it would not read a goodbye, either
            return BrokerServer(name, str(Alarm()))
        return BrokerServer(name)
