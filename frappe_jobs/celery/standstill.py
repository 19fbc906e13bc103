"""A worker whose main loop stands still is woken, or ends, so that its supervisor begins another.

All that the loop waits for should have a limit; but py-amqp reads a frame to its end, however long
that takes, and there may be more such places.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from kombu.transport import redis

from frappe_jobs.celery.silence import channels
from frappe_jobs.celery.step import ConsumerStep

logger = logging.getLogger(__name__)

#: Seconds between two looks, and between two signs of the loop's life.
INTERVAL = 1.0

#: After this many looks without a sign its sockets are shut: whatever it reads raises an error.
SHUT = 15

#: After this many the worker ends: nothing else has helped.
END = 120


class Standstill(ConsumerStep):
    """Watch from a thread of its own while the consumer is in its loop."""

    _thread: threading.Thread | None = None

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = bool(consumer.hub)
        #: Looks since the last sign; a frozen process makes no looks either.
        self._missed = 0
        self._is_in_loop = False

    def start(self, consumer: Any) -> None:
        consumer.timer.call_repeatedly(INTERVAL, self._give_a_sign)
        self._give_a_sign()
        look_again_at_the_dead(consumer.pool)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, args=(consumer,), daemon=True, name="standstill"
            )
            self._thread.start()

    def _give_a_sign(self) -> None:
        self._missed, self._is_in_loop = 0, True

    def stop(self, consumer: Any) -> None:
        self._is_in_loop = False

    def _watch(self, consumer: Any) -> None:
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            self._missed += 1
            if not self._is_in_loop:
                continue
            if self._missed == SHUT:
                logger.error("the worker's loop stands still for %s s: it is woken", SHUT)
                for sock in sockets(consumer.connection):
                    shut(sock)
            elif self._missed == END:
                logger.critical("the worker's loop stands still for %s s: the worker ends", END)
                os.kill(os.getpid(), signal.SIGKILL)


def look_again_at_the_dead(pool: Any) -> None:
    """Have Celery look again at processes that died while the loop did not run.

    It would fail over them, in ``AsynPool._pool`` and their ``_sentinel_poll``.
    """
    for process in getattr(getattr(pool, "_pool", None), "_pool", ()):
        if getattr(process, "_sentinel_poll", 0) is None:
            del process._sentinel_poll


def sockets(connection: Any) -> Iterator[Any]:
    """The open sockets of kombu's connection; opens none."""
    if isinstance(connection.transport, redis.Transport):
        for channel in channels(connection):
            for pool in (channel._pool, channel._async_pool):
                for redis_connection in [*getattr(pool, "_in_use_connections", ())]:
                    yield getattr(redis_connection, "_sock", None)
    else:
        yield getattr(getattr(connection._connection, "_transport", None), "sock", None)


def shut(sock: Any) -> None:
    """End whatever is read from it, at once and in any thread."""
    try:
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed by now
        logger.debug("a socket could not be shut", exc_info=True)
