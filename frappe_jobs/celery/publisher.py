"""A thread sends what a worker's main loop has to say, so the loop never waits for a broker.

That is its events, its answers, and the callbacks of jobs that it killed.  Under an alarm RabbitMQ
may take no message for hours, and the backlog drains only if the worker goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from celery import Celery

from frappe_jobs.servers.refusals import answer_of

logger = logging.getLogger(__name__)

#: How many messages are kept while they cannot be sent; the oldest are dropped first.
LIMIT = 1000

#: Seconds between two attempts, from the first to the longest.
PAUSE, LONGEST_PAUSE = 1.0, 5.0

#: Seconds for which sending must work before the same error is logged again.
STABLE = 10.0

#: For RabbitMQ: a message is not confirmed.
UNCONFIRMED = {"confirm_publish": False}

Send = Callable[[Any], object]


class Publisher:
    """Sends, in order, from a thread and a connection of its own."""

    def __init__(self, app: Celery, is_amqp: bool) -> None:
        self._app, self._options = app, UNCONFIRMED if is_amqp else {}
        self._waiting: deque[Send] = deque(maxlen=LIMIT)
        self._something = threading.Condition()
        self._thread: threading.Thread | None = None
        self._connection: Any = None

    def put(self, send: Send) -> None:
        """Have it called soon, with a producer; only once, even if that fails."""
        with self._something:
            self._waiting.append(send)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="publisher")
                self._thread.start()
            self._something.notify()

    def _run(self) -> None:
        pause, said, failed_at = threading.Event(), "", 0.0
        delay = PAUSE
        while True:
            send = self._next()
            try:
                send(self._producer())
            except Exception as error:  # whatever the broker answers, the next is tried as well
                failed_at = time.monotonic()
                if said != (said := f"{type(error).__name__}: {answer_of(error)}"):
                    logger.warning("this worker's events and answers are not sent: %s", said)
                self._let_go()
                pause.wait(delay)
                delay = min(2 * delay, LONGEST_PAUSE)
            else:  # RabbitMQ reports a message that it refused only when the next is sent
                if time.monotonic() - failed_at > STABLE:
                    said, delay = "", PAUSE

    def _next(self) -> Send:
        with self._something:
            self._something.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def _producer(self) -> Any:
        if self._connection is None:
            self._connection = self._app.connection_for_write(transport_options=self._options)
        return self._connection.Producer(auto_declare=False)

    def _let_go(self) -> None:
        """Drop the connection without a goodbye, which the server may not read."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.collect()
        except Exception:  # it is gone in any case
            logger.debug("a connection that broke could not be closed", exc_info=True)
