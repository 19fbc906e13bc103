"""A worker notices that its broker is silent, and closes a connection that it does not use.

A connection that waits for messages is read when there is something to read, so no time limit of
its socket applies.  On RabbitMQ heartbeats notice; on Redis this module does.  It alone uses these,
which have no public interface in kombu: ``Channel._brpop_start`` asks for a message, ``_in_poll``
is the connection while it waits for a message, ``client`` always has it, ``subclient`` waits for
control commands, ``_pool`` and ``_async_pool`` hold all of them, and the transport's ``cycle``
knows whose sockets the loop watches.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Iterator
from typing import Any

from kombu.transport import redis

from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.servers.sockets import ANSWER_TIMEOUT

logger = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 1.0

#: Seconds that an answer may be late.  Redis answers at the latest when its time to find a message
#: is over.
LATE = 3.0


class Silence(ConsumerStep):
    """Have the consumer reconnect when Redis has fallen silent."""

    def start(self, consumer: Any) -> None:
        channel = consumer.task_consumer.channel
        if isinstance(channel, redis.Channel) and consumer.hub:
            ears = {channel: Ear(channel, consumer.hub)}
            consumer.timer.call_repeatedly(INTERVAL, self._look, (consumer, ears))

    def _look(self, consumer: Any, ears: dict[Any, Ear]) -> None:
        for channel in channels(consumer.connection):
            if channel not in ears:
                ears[channel] = Ear(channel, consumer.hub)
            ears[channel].look()


class Ear:
    """Watches the connections of a channel that wait for something."""

    def __init__(self, channel: Any, hub: Any) -> None:
        self._channel, self._hub = channel, hub
        self._asked = time.monotonic()
        #: Since when each state has lasted, as far as the looks have seen.
        self._since: dict[str, float] = {}
        ask = channel._brpop_start

        def noting_when(*arguments: Any, **options: Any) -> Any:
            self._asked = time.monotonic()
            return ask(*arguments, **options)

        channel._brpop_start = noting_when

    def look(self) -> None:
        """Raise TimeoutError if Redis is silent; close the connection if it has no use."""
        channel = self._channel
        waits = channel._in_poll
        wait = channel.brpop_timeout + LATE
        if waits and time.monotonic() - self._asked > wait and not _is_readable(waits):
            raise TimeoutError(f"Redis is silent: no answer for {wait:g} s")
        commands = channel.__dict__.get("subclient")
        owes = getattr(commands, "health_check_response_counter", 0) > 0
        if self._lasts("owes", owes, ANSWER_TIMEOUT):
            raise TimeoutError(f"Redis is silent: no answer for {ANSWER_TIMEOUT:g} s")
        if self._lasts("idle", not waits and bool(_socket(channel)), LATE):
            self._leave()

    def _lasts(self, what: str, is_so: bool, seconds: float) -> bool:
        if not is_so:
            self._since.pop(what, None)
            return False
        return time.monotonic() - self._since.setdefault(what, time.monotonic()) > seconds

    def _leave(self) -> None:
        """Close the connection of a worker without room for a message: it may be dropped silently.

        kombu makes it anew when there is room.  Not by kombu's own ``disconnect``: after that 5.6
        would never ask for a message again, and it would poll a connection that was reset forever.
        """
        channel, client = self._channel, self._channel.client
        cycle, descriptor = channel.connection.cycle, _socket(channel).fileno()
        self._hub.remove(descriptor)
        cycle._fd_to_chan.pop(descriptor, None)
        cycle._chan_to_sock.pop((channel, client, "BRPOP"), None)
        plain: Any = type(client.connection).__mro__[1]
        plain.disconnect(client.connection)


def channels(connection: Any) -> Iterator[redis.Channel]:
    """The open channels of kombu's connection to Redis."""
    for channel in [*connection.transport.channels]:
        if isinstance(channel, redis.Channel) and not channel.closed:
            yield channel


def hang_up(connection: Any) -> None:
    """Drop a lost connection of kombu's to Redis without a goodbye.

    Celery would say goodbye on each channel, and wait each time for an answer that may not come.
    What this worker holds is put back if Redis can be reached; else it comes back by itself.
    """
    if not isinstance(connection.transport, redis.Transport):
        return
    errors = connection.connection_errors + connection.channel_errors
    open_ones = [*channels(connection)]
    for channel in open_ones:
        for pool in (channel._pool, channel._async_pool):
            if pool is not None:
                pool.disconnect()
    try:
        for channel in open_ones:
            channel.qos.restore_unacked_once()
    except errors:
        logger.info("what this worker holds comes back later: Redis is out of reach")
    for channel in open_ones:
        channel.closed = True


def _socket(channel: Any) -> Any:
    """The socket on which the channel asks for messages; None if it is closed."""
    return getattr(getattr(channel.__dict__.get("client"), "connection", None), "_sock", None)


def _is_readable(connection: Any) -> bool:
    """Whether there is an answer that was not read yet: it may hold a message."""
    poller = select.poll()
    poller.register(connection._sock, select.POLLIN)
    return bool(poller.poll(0))
