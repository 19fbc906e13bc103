"""What a worker answers when it is asked whether it is online."""

from __future__ import annotations

import time
from typing import Any

from frappe_jobs.brokers.base import PRESENCE
from frappe_jobs.celery.step import ConsumerStep


class Presence(ConsumerStep):
    """Add its queues and its clock to Celery's ``inspect stats``."""

    def info(self, consumer: Any) -> dict[str, Any]:
        queues = [queue.name for queue in getattr(consumer.task_consumer, "queues", ())]
        return {PRESENCE: {"time": time.time(), "queues": queues}}
