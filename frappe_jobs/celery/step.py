"""A step of ours beside Celery's, in a worker's consumer."""

from __future__ import annotations

from celery import bootsteps


class ConsumerStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Begins once the worker takes messages."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
