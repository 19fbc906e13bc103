"""Celery's settings of the servers: the broker, the results, the schedule.

Each URL is read in one place, and its options go to Celery as settings of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from ssl import CERT_NONE
from typing import Any
from urllib.parse import urlencode

from celery import Celery
from celery.app.utils import Settings as CelerySettings

from frappe_jobs.errors import ConfigError
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.servers.sockets import (
    AMQP_LIMITS,
    ANSWER_TIMEOUT,
    CONNECT_POLICY,
    CONNECT_TIMEOUT,
    IDLE,
    REDIS_LIMITS,
)
from frappe_jobs.servers.url import read_url
from frappe_jobs.servers.url_options import REDIS_SCHEMES
from frappe_jobs.sites_folder import COMMON_CONFIG
from frappe_jobs.texts.masking import masked, shown

#: What Celery calls an option of RabbitMQ's URL.
AMQP_SETTINGS = {"heartbeat": "broker_heartbeat", "connect_timeout": "broker_connection_timeout"}

#: What Celery calls an option of a Redis URL, for its result backend.
RESULT_SETTINGS = {
    "socket_timeout": "redis_socket_timeout",
    "socket_connect_timeout": "redis_socket_connect_timeout",
    "socket_keepalive": "redis_socket_keepalive",
    "health_check_interval": "redis_backend_health_check_interval",
    "retry_on_timeout": "redis_retry_on_timeout",
    "client_name": "redis_client_name",
}

#: Their defaults; asking twice for a result does no harm.
RESULT_LIMITS = {
    "socket_timeout": ANSWER_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_keepalive": True,
    "health_check_interval": IDLE,
    "retry_on_timeout": True,
}


def broker_settings(settings: SettingsInForce) -> dict[str, Any]:
    """Where the messages are; a Redis's options are among those of its transport."""
    broker = read_url(settings.broker_url)
    named = {AMQP_SETTINGS[name]: value for name, value in broker.options.items() if broker.is_amqp}
    return {"broker_url": broker.for_celery(), "broker_use_ssl": broker.use_ssl() or False} | named


def broker_options(settings: SettingsInForce) -> dict[str, Any]:
    """How long kombu's transport waits; the options of a Redis URL win.

    A team's own app reads its own URL.
    """
    if settings.is_amqp:
        return AMQP_LIMITS | CONNECT_POLICY
    # The interval also holds for the connections that wait for messages or control commands.
    ours = REDIS_LIMITS | {"health_check_interval": IDLE}
    return ours if settings.is_guest else {**ours, **read_url(settings.broker_url).options}


def result_settings(settings: SettingsInForce) -> dict[str, Any]:
    """Where Celery's results are."""
    if settings.result_backend.partition(":")[0] not in REDIS_SCHEMES:
        return {"result_backend": settings.result_backend}
    results = read_url(settings.result_backend)
    options = {**RESULT_LIMITS, **results.options}
    if results.path:  # a Unix socket, for which Celery would set it as well
        del options["socket_keepalive"]
    named = {RESULT_SETTINGS[name]: value for name, value in options.items()}
    return {
        "result_backend": results.for_celery(),
        "redis_backend_use_ssl": results.use_ssl() or {},
    } | named


def schedule_settings(settings: SettingsInForce) -> dict[str, Any]:
    """Where RedBeat's own tools find the schedule."""
    schedule = read_url(settings.schedule_url)
    tls = dict(schedule.tls or {})
    arguments = schedule.for_redis_py(**REDIS_LIMITS)
    return {
        "redbeat_redis_url": arguments.pop("url"),
        "redbeat_redis_options": {k: arguments[k] for k in arguments if k not in tls},
        "redbeat_redis_use_ssl": tls,
    }


class ConfiguredServers(CelerySettings):  # type: ignore[misc]
    """Celery's settings, but the environment does not change the servers (see environment.py)."""

    @property
    def broker_url(self) -> Any:
        return self.get("broker_url")

    broker_read_url = broker_write_url = broker_url

    @property
    def result_backend(self) -> Any:
        return self.get("result_backend")


def keep_to_the_configuration(app: Celery) -> None:
    """Let Celery's own variables in the environment have no effect on that app."""
    conf = ConfiguredServers({}, keys=app.conf._keys)  # Celery 5.6 leaves these out of a swap
    conf.swap_with(app.conf)
    app.conf = conf


def check_results(app: Celery, settings: SettingsInForce) -> None:
    """Raise ConfigError for a result backend that Celery does not have, or lacks a package for."""
    if settings.celery_result_backend is None:
        return
    try:
        _ = app.backend
    except Exception as error:  # Celery's backends may raise anything
        where = settings.origins.get("celery_result_backend", COMMON_CONFIG)
        text = masked(" ".join(str(error).split()))
        raise ConfigError(
            f"{where}: 'celery_result_backend' must be one of Celery's result backends. It is: "
            f"{shown('celery_result_backend', settings.celery_result_backend)}, and Celery says: "
            f"{type(error).__name__}: {text}"
        ) from None


def broker_of(app: Celery) -> str:
    """The URL of a team's own app's broker, with its ``broker_use_ssl``, for our own connections.

    Raises ConfigError if it has none, or if it sends to another broker than its workers read from.
    """
    write, read = (_joined(url) for url in (app.conf.broker_write_url, app.conf.broker_read_url))
    if not write:
        raise ConfigError("The app has no broker_url.")
    is_redis = write.partition(":")[0] in REDIS_SCHEMES
    if is_redis and read != write:
        raise ConfigError(
            f"The app's workers read from {masked(read)}, and it sends to {masked(write)}: on "
            "Redis broker_read_url and broker_write_url must be the same."
        )
    try:
        app.connection_for_write(write)
    except Exception as error:  # kombu may raise anything; its text may quote a password
        why = f": {error}" if isinstance(error, TypeError) else ""
        raise ConfigError(
            f"Celery cannot read the app's broker_url, {masked(write)}: {type(error).__name__}{why}"
        ) from None
    return _encrypted(write, app.conf.broker_use_ssl) if is_redis else write


def results_of(app: Celery, settings: SettingsInForce) -> str | None:
    """Where Celery's results go, for our own connections; a team's own app as Celery reads it."""
    if not settings.is_guest:
        return settings.result_backend
    url = _joined(app.conf.result_backend)
    is_redis = url.partition(":")[0] in REDIS_SCHEMES
    return _encrypted(url, app.conf.redis_backend_use_ssl) if is_redis else url or None


def _joined(url: Any) -> str:
    return ";".join(map(str, url)) if isinstance(url, (list, tuple)) else str(url or "")


def _encrypted(url: str, use_ssl: Any) -> str:
    """The URL with ``broker_use_ssl``, unless it has such options itself."""
    if not isinstance(use_ssl, Mapping) or "ssl_" in url.partition("?")[2]:
        return url
    options = dict(use_ssl)
    if (required := options.pop("ssl_cert_reqs", None)) is not None:
        unverified = (CERT_NONE, "CERT_NONE", "none")
        options["ssl_cert_reqs"] = "none" if required in unverified else "required"
    secure = url.replace("redis://", "rediss://", 1) if url.startswith("redis://") else url
    return f"{secure}{'&' if '?' in secure else '?'}{urlencode(options)}"
