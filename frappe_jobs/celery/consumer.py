"""The worker's consumer: what is no job is kept aside, and the worker goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.state import task_ready

from frappe_jobs.celery import mailbox
from frappe_jobs.celery.ahead import takes_ahead
from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.fault import fault_of
from frappe_jobs.celery.kept_aside import PAUSE, KeptAside
from frappe_jobs.celery.request import REVOKED, NoJob
from frappe_jobs.celery.silence import hang_up
from frappe_jobs.celery.steady import SteadyConsumer
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.celery.taking import Taking, takes_by_hand, without_time_that_has_come
from frappe_jobs.celery.transport import guard, losses
from frappe_jobs.celery.transport.take import Take, is_ahead
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.message import HEADER

logger = logging.getLogger(__name__)

#: A compressed message may unpack to this many times the largest size of a message.
UNPACKED = 10


class Consumer(SteadyConsumer):
    """Celery's consumer would drop what it cannot read, or end; here such messages are kept."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        mailbox.guard(options["app"], self)
        super().__init__(*arguments, **options)
        self.losses = losses(*self.connection_errors, *self.channel_errors)
        self._runtime = runtime_of(self.app)
        self._settings = self._runtime.in_force
        self.kept_aside = KeptAside(self._runtime.ledger.keep_aside)

    def connect(self) -> Any:
        connection = super().connect()
        if takes_by_hand(self, connection):
            self.initial_prefetch_count = 0  # or Celery begins with a limit for the whole channel
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        hang_up(self.connection)
        super().on_connection_error_after_connected(exc)

    def connection_for_read(self, heartbeat: Any = None) -> Any:
        """Celery's, with a guard: what the broker holds may be no message at all."""
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        limit = self._settings.max_message_size * UNPACKED
        guard(
            connection, self._keep_raw, unpacked_limit=limit, is_guest=self._settings.is_guest,
            take=self._take(),
        )  # fmt: skip
        return self.ensure_connected(connection)

    def _take(self) -> Take | None:
        """How this worker takes from Redis; None: as kombu does."""
        settings = self._settings
        if settings.is_amqp or settings.transport == "celery":
            return None
        prefix, queue_name = settings.prefix, self._runtime.broker.queue_name
        return Take(
            f"{prefix}paused", f"{prefix}weights", is_fair=settings.takes_turns,
            guests=frozenset(map(queue_name, settings.guests)),
            is_ahead=takes_ahead(self.pool) and not settings.is_guest,
        )  # fmt: skip

    def on_close(self) -> None:
        self.kept_aside.forget_unacknowledged()
        super().on_close()

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Celery's handler, for messages that were checked: its errors would end the worker.

        Of the errors that it still raises, only a lost connection is passed on.
        """
        handle = super().create_task_handler(*arguments, **options)

        def on_task_received(message: Any) -> None:
            if isinstance(self.qos, Taking) and not self.qos.accepts(message):
                return
            if is_ahead(message) and HEADER not in (message.headers or {}):
                # A team's task has no record, by which we could be told not to begin it.
                message.channel.qos.ahead.waits()
                message.requeue()
                return
            if fault := fault_of(message, runs_built_ins=self._settings.is_guest):
                self._keep(message, fault)
                return
            try:
                if isinstance(self.qos, Taking):
                    without_time_that_has_come(message)
                handle(message)
            except self.losses:
                raise
            except Exception as error:
                logger.debug("a message that Celery trips over", exc_info=True)
                if not message.acknowledged:
                    self._keep(message, f"ends in {type(error).__name__}: {error}")

        return on_task_received

    def apply_eta_task(self, task: Any) -> None:
        """Run what has waited for its time; with no free process, give it to another worker."""
        if isinstance(self.qos, Taking) and not self.qos.has_room:
            task_ready(task)
            task.reject(requeue=True)
        else:
            super().apply_eta_task(task)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._keep(message, f"names a task that this worker does not have: {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        is_told = isinstance(exc, NoJob)
        self._keep(message, str(exc) if is_told else f"is no valid Celery task: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._keep(message, f"cannot be read: {type(exc).__name__}: {exc}")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self._keep(message, "is no Celery task")

    def on_revoke(self, task_ids: Any) -> None:
        """Cancel the jobs among them that wait, whichever worker gets their messages."""
        named = [task_ids] if isinstance(task_ids, str) else task_ids
        ids = [task_id for task_id in named if isinstance(task_id, str)]
        try:
            self._runtime.cancel_from_outside(ids, REVOKED)
        except FrappeJobsError as error:  # the worker that gets the message tries again
            logger.error("what was revoked cannot be cancelled yet: %s", error)

    def _keep(self, message: Any, reason: str) -> None:
        self.kept_aside.keep(
            message.delivery_info.get("routing_key"), reason,
            header=message.headers, body=message.body, acknowledge=message.ack,
        )  # fmt: skip

    def _keep_raw(self, queue: str, reason: str, raw: bytes) -> None:
        self.kept_aside.keep(queue, reason, body=raw)


class Keeping(ConsumerStep):
    """Keep aside what could not be kept before, and sum up what was not logged."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = isinstance(consumer, Consumer)

    def start(self, consumer: Any) -> None:
        look = consumer.kept_aside.look
        consumer.timer.call_repeatedly(PAUSE, consumer.call_soon, (look,))

    def shutdown(self, consumer: Any) -> None:
        consumer.kept_aside.sum_up()
