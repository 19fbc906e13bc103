"""RabbitMQ as the broker: classic queues with two priorities; the ledger knows what waits there."""

from __future__ import annotations

from collections.abc import Sequence

from frappe_jobs.brokers.kombu import KombuBroker
from frappe_jobs.message import Message


class RabbitBroker(KombuBroker):
    """RabbitMQ takes the highest number first; within one priority, first in, first out."""

    at_front = 1
    ordinary = 0

    def lost(self, messages: Sequence[Message]) -> list[Message]:
        return []

    def discard(self, messages: Sequence[Message]) -> set[str]:
        """RabbitMQ cannot be searched: the worker drops the messages by their records."""
        return set()
