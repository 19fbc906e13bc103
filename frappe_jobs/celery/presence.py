"""What a worker answers when it is asked whether it is online."""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps

from frappe_jobs.brokers.base import PRESENCE


class Presence(bootsteps.StartStopStep):  # type: ignore[misc]
    """Add its queues and its clock to Celery's ``inspect stats``."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def info(self, consumer: Any) -> dict[str, Any]:
        queues = [queue.name for queue in getattr(consumer.task_consumer, "queues", ())]
        return {PRESENCE: {"time": time.time(), "queues": queues}}
