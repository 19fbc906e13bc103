"""The bench's queues, declared alike by every process that sends or consumes."""

from __future__ import annotations

from kombu.entity import Exchange, Queue

from frappe_jobs.servers.in_force import SettingsInForce


def queues(settings: SettingsInForce) -> list[Queue]:
    """The bench's queues, as Celery declares them; on RabbitMQ with two priorities.

    They are classic queues, even if the server's default is another type.
    """
    names = (f"{settings.bench_id}:{queue}" for queue in settings.queues)
    arguments = {"x-max-priority": 1, "x-queue-type": "classic"} if settings.is_amqp else None
    return [
        Queue(name, Exchange(name, type="direct"), routing_key=name, queue_arguments=arguments)
        for name in names
    ]
