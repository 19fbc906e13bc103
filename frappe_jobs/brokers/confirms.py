"""Many messages on their way to RabbitMQ at once: it confirms them together, not one after another.

py-amqp waits for each message's confirmation before the next one is sent.  What it has no public
name for: that a channel's own ``basic_publish`` is the one that waits, before the class's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from amqp.exceptions import MessageNacked


class Confirms:
    """A channel, and what RabbitMQ says of the messages that were sent on it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        #: By their numbers on the channel, the ids of messages of which nothing was said yet.
        self._unsaid: dict[int, str] = {}
        self._sent = 0
        #: The ids of messages that RabbitMQ has.
        self.confirmed: list[str] = []
        self._are_refused = False
        channel.events["basic_ack"].add(self._acknowledged)
        channel.events["basic_nack"].add(self._refused)
        channel.confirm_select()
        vars(channel).pop("basic_publish", None)

    def sends(self, message_id: str) -> None:
        """Note that this message is sent next."""
        self._sent += 1
        self._unsaid[self._sent] = message_id

    def wait(self, seconds: float) -> None:
        """Return when RabbitMQ has confirmed all of them.

        Raises MessageNacked if it refuses one, TimeoutError if it says nothing for so long.
        """
        until = time.monotonic() + seconds
        while self._unsaid:
            said = len(self._unsaid)
            self.channel.connection.drain_events(timeout=max(0.01, until - time.monotonic()))
            if len(self._unsaid) < said:
                until = time.monotonic() + seconds
        if self._are_refused:
            raise MessageNacked

    def _acknowledged(self, number: int, multiple: bool) -> None:
        self.confirmed += self._taken(number, multiple)

    def _refused(self, number: int, multiple: bool) -> None:
        self._are_refused |= bool(self._taken(number, multiple))

    def _taken(self, number: int, multiple: bool) -> list[str]:
        """That message, or with ``multiple`` all up to it."""
        said = [one for one in self._unsaid if one <= number] if multiple else [number]
        return [self._unsaid.pop(one) for one in said if one in self._unsaid]


@contextmanager
def confirmed_together(connection: Any) -> Iterator[Confirms]:
    """A channel of that connection of kombu's, which is closed behind it."""
    connection.default_channel  # noqa: B018 (connects, if need be)
    channel = connection.channel()
    try:
        yield Confirms(channel)
    finally:
        with suppress(Exception):  # it may be broken, and another error is on its way
            channel.close()
