"""RabbitMQ as the broker: classic queues with two priorities; the ledger knows what waits there."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from frappe_jobs.brokers.base import BrokerServer
from frappe_jobs.brokers.kombu import KombuBroker
from frappe_jobs.message import Message

#: No queue has this name: a message for it is confirmed, and goes nowhere.
NOWHERE = "frappe_jobs.nowhere"
#: Seconds in which RabbitMQ confirms a message, unless it takes none.
CONFIRM_TIMEOUT = 1.0


class RabbitBroker(KombuBroker):
    """RabbitMQ takes the highest number first; within one priority, first in, first out."""

    at_front = 1
    ordinary = 0

    def lost(self, messages: Sequence[Message]) -> list[Message]:
        return []

    def discard(self, messages: Sequence[Message]) -> set[str]:
        """RabbitMQ cannot be searched: the worker drops the messages by their records."""
        return set()

    def _server(self, connection: Any) -> BrokerServer:
        # To one that only reads, RabbitMQ tells nothing of its alarms.
        said = connection.connection.server_properties
        name = f"{said.get('product', 'AMQP')} {said.get('version', '')}".rstrip()
        channel = connection.default_channel
        try:
            channel.basic_publish_confirm(
                channel.prepare_message(b"?"), routing_key=NOWHERE, confirm_timeout=CONFIRM_TIMEOUT
            )
        except socket.timeout:
            connection.connection.collect()  # it would not read that we close it, either
            return BrokerServer(name, "it confirms no messages: its memory or its disk is full")
        return BrokerServer(name)
