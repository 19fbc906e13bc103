"""The worker's consumer: what is no job of ours is kept aside, and the worker goes on."""

from __future__ import annotations

import logging
from typing import Any

from celery.utils.imports import symbol_by_name
from celery.worker.consumer import Consumer as CeleryConsumer

from frappe_jobs.celery.app import RUNTIME
from frappe_jobs.errors import FrappeJobsError

logger = logging.getLogger(__name__)

#: Of a message's body, so many characters are kept.
BODY_LIMIT = 10_000


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's consumer, which would drop what it cannot read, with one more step: keep it."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._keep_aside(message, f"cannot be read: {exc}")
        message.ack()

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self._keep_aside(message, "is no Celery task")
        message.ack()

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
            symbol_by_name(RUNTIME)(self.app).ledger.keep_aside(kept)
        except FrappeJobsError:
            logger.exception("it could not be kept: %s", kept)
