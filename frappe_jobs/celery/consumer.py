"""The worker's consumer: what is no job of ours is kept aside, and the worker goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from amqp.exceptions import PreconditionFailed
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import task_ready
from kombu.transport import virtual

from frappe_jobs.celery.composition import runtime_of
from frappe_jobs.celery.taking import Taking, takes_by_hand, without_time_that_has_come
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.message import TASK

logger = logging.getLogger(__name__)

#: Of a message's body, so many characters are kept.
BODY_LIMIT = 10_000


def fault_of(message: Any) -> str | None:
    """What is wrong with a message so that Celery could not even refuse it; None if nothing is."""
    is_ours = isinstance(message.headers, dict) and message.headers.get("task") == TASK
    if is_ours and message.content_type != "application/json":
        return f"is {message.content_type!r}, not JSON"
    try:
        payload = message.payload
    except Exception as error:  # whatever a decoder does with whatever came
        return f"cannot be read: {type(error).__name__}: {error}"
    headers = message.headers
    if not isinstance(headers, dict) or not isinstance(headers.get("task"), str):
        return "is no Celery task"
    if not isinstance(headers.get("id"), str):
        return "has no id"
    if not _is_list(payload, 3) or [type(part) for part in payload] != [list, dict, dict]:
        return "holds no arguments of a Celery task"
    limits = headers.get("timelimit") or [None, None]
    if not _is_list(limits, 2) or not all(_is_limit(limit) for limit in limits):
        return f"has time limits that are none: {limits!r}"
    if not isinstance(headers.get("retries", 0), int):
        return f"has a number of retries that is none: {headers['retries']!r}"
    return None


def _is_list(value: object, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length


def _is_limit(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and value > 0)


def _outliving_its_channel(loop: Callable[..., None]) -> Callable[..., None]:
    """Celery's loop, for which a channel that RabbitMQ closes is a connection that is lost.

    RabbitMQ does so to who holds a message over its ``consumer_timeout`` (30 minutes); Celery would
    end the worker, with the job that takes so long.
    """

    def run(*arguments: Any) -> None:
        try:
            loop(*arguments)
        except PreconditionFailed as error:
            raise ConnectionError(f"RabbitMQ closed the channel: {error}") from error

    return run


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's consumer, which would drop what it cannot read, with one more step: keep it."""

    loop: Callable[..., None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loop = _outliving_its_channel(self.loop)

    def connect(self) -> Any:
        connection = super().connect()
        if takes_by_hand(self, connection):
            self.initial_prefetch_count = 0  # or Celery begins with a limit for the whole channel
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the channel as a whole first, while its connection still has an address.

        On Redis one close may fail at the answer that it waits for, and leave the rest to the next.
        Celery 5.7 makes that one after the connection has forgotten its address: a worker with a
        job in one process and none in another would end.
        """
        channel = getattr(self.task_consumer, "channel", None)
        if isinstance(channel, virtual.Channel):
            for _ in range(2):
                self.connection.maybe_close_channel(channel)
        super().on_connection_error_after_connected(exc)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Celery's handler, behind a look at the message: what it trips over ends the worker."""
        handle = super().create_task_handler(*arguments, **options)

        def on_task_received(message: Any) -> None:
            if isinstance(self.qos, Taking) and not self.qos.accepts(message):
                return
            if fault := fault_of(message):
                self._keep_aside(message, fault)
                message.ack()
                return
            if isinstance(self.qos, Taking):
                without_time_that_has_come(message)
            handle(message)

        return on_task_received

    def apply_eta_task(self, task: Any) -> None:
        """Run what has waited for its time; with no process free, leave it to whoever has one."""
        if isinstance(self.qos, Taking) and not self.qos.has_room:
            task_ready(task)
            task.reject(requeue=True)
        else:
            super().apply_eta_task(task)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._keep_aside(message, f"names a task that this worker does not have: {exc}")
        message.ack()

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._keep_aside(message, f"is no valid Celery task: {exc}")
        message.ack()

    def _keep_aside(self, message: Any, reason: str) -> None:
        queue = message.delivery_info.get("routing_key")
        logger.error(
            "a message in %s %s; it is kept aside", queue, reason,
            extra={"action": "message_kept_aside"},
        )  # fmt: skip
        kept = {
            "error": f"The message {reason}.",
            "header": repr(message.headers),
            "body": repr(message.body)[:BODY_LIMIT],
        }
        try:
            runtime_of(self.app).ledger.keep_aside(kept)
        except FrappeJobsError:
            logger.exception("it could not be kept: %s", kept)
