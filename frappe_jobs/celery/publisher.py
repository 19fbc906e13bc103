"""What a worker's main loop has to say is sent by a thread: the loop never waits for a broker.

Its events, its answers to who asks, the reports of what it has killed.  Under an alarm RabbitMQ
takes no message for hours, perhaps; what raised the alarm drains only if the worker goes on.
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

#: So much is kept while it cannot be sent; the oldest of it is dropped first.
LIMIT = 1000

#: Seconds between two attempts, from the first to the longest.
PAUSE, LONGEST_PAUSE = 1.0, 5.0

#: What has been sent for so many seconds and is not then is another state, which is said again.
STABLE = 10.0

#: Of RabbitMQ alone: nobody waits for each to be confirmed.
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
        """Have it called soon, with a producer; once, whether or not it can be sent."""
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
            except Exception as error:  # whatever the broker says, the next one is tried as well
                failed_at = time.monotonic()
                if said != (said := f"{type(error).__name__}: {answer_of(error)}"):
                    logger.warning("what this worker says of itself is not sent: %s", said)
                self._let_go()
                pause.wait(delay)
                delay = min(2 * delay, LONGEST_PAUSE)
            else:  # of the first that it does not take RabbitMQ says so with the next
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
        """Of the connection, without a word to a server that may not read it."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.collect()
        except Exception:  # it is gone, one way or another
            logger.debug("a connection that broke could not be closed", exc_info=True)
