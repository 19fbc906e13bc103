"""What a worker answers when it is asked whether it is online."""

from __future__ import annotations

import time
from typing import Any

from frappe_jobs.alive.code import versions
from frappe_jobs.brokers.base import PRESENCE
from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.step import ConsumerStep


class Presence(ConsumerStep):
    """Add its queues, its clock and the versions of its code to Celery's ``inspect stats``."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        # As it begins: later the disk may have others.
        self._code = versions(runtime_of(consumer.app).settings.sites.apps())

    def info(self, consumer: Any) -> dict[str, Any]:
        queues = [queue.name for queue in getattr(consumer.task_consumer, "queues", ())]
        return {PRESENCE: {"time": time.time(), "queues": queues, "code": self._code}}
