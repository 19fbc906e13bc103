"""A consumer that no answer of a broker ends: it waits, and comes back.

When a broker refuses (a Redis that has become a replica, is full, or has another access list; a
RabbitMQ that closes a channel), Celery ends the worker.  And its main loop waits for the broker,
until a message is confirmed or an event is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from amqp.exceptions import AMQPError
from celery.bootsteps import RUN
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.exceptions import InconsistencyError, OperationalError

from frappe_jobs.celery.control import Mailbox
from frappe_jobs.celery.events import ByThread
from frappe_jobs.celery.publisher import Publisher
from frappe_jobs.celery.waiting import LONGEST, STABLE, STEP, Waiting, in_silence, leave_if_told
from frappe_jobs.errors import BrokerError
from frappe_jobs.texts.masking import masked

logger = logging.getLogger(__name__)

#: Errors that a broker answers, or kombu raises for it: a worker treats all as a lost connection.
ANSWERS = (redis.RedisError, AMQPError, OperationalError, InconsistencyError, BrokerError)

#: kombu's logger for what it does about every second for a worker on Redis.
KOMBU = "kombu.transport.redis"


class SteadyConsumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's consumer, but any error that a broker answers counts as a lost connection."""

    connection_errors: tuple[type[BaseException], ...]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connection_errors = (*self.connection_errors, *self.channel_errors, *ANSWERS)
        is_amqp = self.conninfo.transport.driver_type == "amqp"
        self.publisher = Publisher(self.app, is_amqp)
        mailbox = self.app.control.mailbox
        if isinstance(mailbox, Mailbox):  # not a team's own
            mailbox.publisher, mailbox.is_amqp = self.publisher, is_amqp
        url = masked(self.conninfo.as_uri(include_password=True))
        self._waiting = Waiting(url, self.connection_errors)
        self._looks: Any = None
        logging.getLogger(KOMBU).addFilter(self._waiting)
        self._unsettled: BaseException | None = None
        #: Stands for this connection; a new object for each.
        self._stay = object()

    def connection_for_write(self, *_: Any, **__: Any) -> ByThread:
        """Celery sends the worker's events through this: the publisher's thread."""
        return ByThread(self.publisher)

    def ensure_connected(self, connection: Any) -> Any:
        """The connection, once the broker accepts it; a signal to stop still ends the worker."""
        # Nothing is sent on it; and its options, as JSON, are part of the worker's statistics.
        connection.transport_options.pop("on_blocked", None)
        connection.ensure_connection(
            lambda error, _: self._waiting.say(error), None, interval_start=STEP,
            interval_step=STEP, interval_max=LONGEST, callback=leave_if_told,
        )  # fmt: skip
        self.first_connection_attempt = False
        # Celery's loop lets its timers raise these, and logs all others.
        connection.connection_errors = self.connection_errors
        return connection

    def on_ready(self) -> None:
        self._unsettled = None
        self._waiting.ready()
        if self._looks is not None:
            self._looks.cancel()
        self._looks = self.timer.call_repeatedly(STABLE, self._waiting.note_return)
        if self.hub is not None:
            self.hub.on_close.add(self._forget_unsettled)
        super().on_ready()

    def _forget_unsettled(self, _hub: Any) -> None:
        """The loop has already ended, and its hub makes the calls that were still to come."""
        self._unsettled = None

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._waiting.lost(exc)
        self._waiting.wait()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        self._waiting.lost(exc)
        with in_silence(CeleryConsumer.__module__):
            super().on_connection_error_after_connected(exc)
        self._waiting.wait()

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Celery's handler, for messages whose acknowledgement may fail.

        Celery would log that, and count the message as held for ever: a worker with a single
        process would take no more.
        """
        handle = super().create_task_handler(*arguments, **options)
        self._stay = stay = object()

        def on_task_received(message: Any) -> None:
            message.ack_log_error = partial(self._settle, stay, message.ack)
            message.reject_log_error = partial(self._settle, stay, message.reject)
            handle(message)

        return on_task_received

    def _settle(
        self, stay: object, settle: Callable[..., object], _logger: Any, _errors: Any, *how: Any
    ) -> None:
        try:
            settle(*how)
        except self.connection_errors as error:
            logger.debug("a message could not be acknowledged", exc_info=True)
            if stay is not self._stay:
                return  # it came by a connection that was given up; the present one works
            self._unsettled = error
            self.call_soon(self._connect_anew)

    def _connect_anew(self) -> None:
        """Reconnect, unless the worker has done so by now, or is about to end."""
        if self._unsettled is not None and self.blueprint.state == RUN:
            raise self._unsettled

    def perform_pending_operations(self) -> None:
        """Celery's, in pools without processes; it would only log what the calls raise."""
        super().perform_pending_operations()
        if self.hub is None:
            self._connect_anew()
