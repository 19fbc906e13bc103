"""What a worker says of itself to who asks whether it is there."""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps

from frappe_jobs.brokers.base import PRESENCE


class Presence(bootsteps.StartStopStep):  # type: ignore[misc]
    """Add to Celery's ``inspect stats`` which queues it serves, and what its clock says."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def info(self, consumer: Any) -> dict[str, Any]:
        queues = [queue.name for queue in getattr(consumer.task_consumer, "queues", ())]
        return {PRESENCE: {"time": time.time(), "queues": queues}}
