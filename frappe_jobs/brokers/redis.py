"""Redis as the broker.

What has no public interface in kombu, and is used here alone: the name of the list that holds a
priority's messages (``channel._q_for_pri``), and that a waiting message is JSON with its Celery
headers inside.
"""

from __future__ import annotations

import json

from frappe_jobs.brokers.kombu import KombuBroker
from frappe_jobs.message import Message

#: Messages looked at in one go while one is searched for.
CHUNK = 500


class RedisBroker(KombuBroker):
    """kombu takes the lowest number first; within one priority, first in, first out."""

    at_front = 0
    ordinary = 6

    def discard(self, message: Message) -> bool:
        with self._reaching(), self._app.connection_for_write() as connection:
            channel = connection.default_channel
            priority = self.at_front if message.at_front else self.ordinary
            key = channel._q_for_pri(self.queue_name(message.queue), priority)
            start = 0
            while waiting := channel.client.lrange(key, start, start + CHUNK - 1):
                for raw in waiting:
                    if message.id.encode() in raw and _id(raw) == message.id:
                        return bool(channel.client.lrem(key, 1, raw))
                start += CHUNK
        return False


def _id(raw: bytes) -> object:
    try:
        return json.loads(raw)["headers"]["id"]
    except (ValueError, KeyError, TypeError):
        return None
