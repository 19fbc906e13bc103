"""A worker whose main loop stands still is woken, or ends, so that its supervisor begins another.

All that the loop waits for has a limit; but py-amqp reads a frame to its end, however long that
takes, and who knows what else.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from celery import bootsteps
from kombu.transport import redis

from frappe_jobs.celery.silence import channels

logger = logging.getLogger(__name__)

#: Seconds between two looks, and between two signs of the loop's life.
INTERVAL = 1.0

#: So many looks without one, and its sockets are shut: whatever it reads ends with an error.
SHUT = 15

#: So many, and nothing helps.
END = 120


class Standstill(bootsteps.StartStopStep):  # type: ignore[misc]
    """Watch from a thread of its own while the consumer is in its loop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    _thread: threading.Thread | None = None

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = bool(consumer.hub)
        #: Looks since the last sign; a process that was frozen looks no oftener than its loop runs.
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
                for one in sockets(consumer.connection):
                    shut(one)
            elif self._missed == END:
                logger.critical("the worker's loop stands still for %s s: the worker ends", END)
                os.kill(os.getpid(), signal.SIGKILL)


def look_again_at_the_dead(pool: Any) -> None:
    """Of processes that died while the loop was out of order, Celery has forgotten to look at them.

    It ends at that, with what it has in ``AsynPool._pool`` and their ``_sentinel_poll``.
    """
    for process in getattr(getattr(pool, "_pool", None), "_pool", ()):
        if getattr(process, "_sentinel_poll", 0) is None:
            del process._sentinel_poll


def sockets(connection: Any) -> Iterator[Any]:
    """What a connection of kombu's has open, without opening anything."""
    if isinstance(connection.transport, redis.Transport):
        for channel in channels(connection):
            for pool in (channel._pool, channel._async_pool):
                for one in [*getattr(pool, "_in_use_connections", ())]:
                    yield getattr(one, "_sock", None)
    else:
        yield getattr(getattr(connection._connection, "_transport", None), "sock", None)


def shut(one: Any) -> None:
    """What is read from it ends at once, in whatever thread."""
    try:
        if one is not None:
            one.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended meanwhile
        logger.debug("a socket could not be shut", exc_info=True)
