"""Celery's settings of the servers: the broker, the results, the schedule.

Each URL is read in one place, and its options go to Celery as settings of its own.
"""

from __future__ import annotations

from typing import Any

from frappe_jobs.brokers.url import read_url
from frappe_jobs.brokers.url_options import REDIS_SCHEMES
from frappe_jobs.config import Settings

#: What Celery calls an option of RabbitMQ's URL.
AMQP_SETTINGS = {"heartbeat": "broker_heartbeat", "connect_timeout": "broker_connection_timeout"}

#: What it calls an option of a Redis's URL, for its result backend.
RESULT_SETTINGS = {
    "socket_timeout": "redis_socket_timeout",
    "socket_connect_timeout": "redis_socket_connect_timeout",
    "socket_keepalive": "redis_socket_keepalive",
    "health_check_interval": "redis_backend_health_check_interval",
    "retry_on_timeout": "redis_retry_on_timeout",
    "client_name": "redis_client_name",
}


def broker_settings(settings: Settings) -> dict[str, Any]:
    """Where the messages are; a Redis's options are among those of its transport."""
    broker = read_url(settings.broker_url)
    named = {AMQP_SETTINGS[name]: value for name, value in broker.options.items() if broker.is_amqp}
    return {"broker_url": broker.for_celery(), "broker_use_ssl": broker.use_ssl() or False} | named


def broker_options(settings: Settings) -> dict[str, Any]:
    """What the URL of a Redis says to kombu's transport; a team's own app reads its own."""
    broker = read_url(settings.broker_url)
    return {} if broker.is_amqp or settings.is_guest else dict(broker.options)


def result_settings(settings: Settings) -> dict[str, Any]:
    """Where Celery's results are."""
    if settings.result_backend.partition(":")[0] not in REDIS_SCHEMES:
        return {"result_backend": settings.result_backend}
    results = read_url(settings.result_backend)
    named = {RESULT_SETTINGS[name]: value for name, value in results.options.items()}
    return {
        "result_backend": results.for_celery(),
        "redis_backend_use_ssl": results.use_ssl() or {},
    } | named


def schedule_settings(settings: Settings) -> dict[str, Any]:
    """Where RedBeat's own tools find the schedule."""
    schedule = read_url(settings.schedule_url)
    return {
        "redbeat_redis_url": schedule.for_redis_py()["url"],
        "redbeat_redis_options": dict(schedule.options),
        "redbeat_redis_use_ssl": dict(schedule.tls or {}),
    }
