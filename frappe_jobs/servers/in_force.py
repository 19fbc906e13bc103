"""The settings that are in force: the same, and where the messages, records and schedule lie.

A team's own Celery app brings its own broker; what asks for a server takes this type, so that it
cannot be handed what only the configuration says.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

from frappe_jobs.config import Settings
from frappe_jobs.errors import BrokerNotConfigured, ConfigError
from frappe_jobs.servers.url import read_url
from frappe_jobs.servers.url_options import AMQP_SCHEMES, REDIS_SCHEMES
from frappe_jobs.sites_folder import COMMON_CONFIG
from frappe_jobs.texts.masking import masked, shown


@dataclass(frozen=True)
class SettingsInForce(Settings):
    """A bench's settings with the servers that hold for it."""

    #: Whether the Celery app is a team's own, extended with ours.
    is_guest: bool = False

    @classmethod
    def of(cls, settings: Settings, **changes: object) -> SettingsInForce:
        """Those of an app of ours, or with what an app changes in them."""
        values: dict[str, Any] = {one.name: getattr(settings, one.name) for one in fields(Settings)}
        return cls(**values | changes)

    @classmethod
    def of_guest(cls, settings: Settings, broker_url: str) -> SettingsInForce:
        """Those of a team's own app, whose broker that is."""
        return cls.of(settings, celery_broker_url=broker_url, is_guest=True)

    @property
    def broker_url(self) -> str:
        """As it was written; raises BrokerNotConfigured, ConfigError where it cannot be read."""
        name = "celery_broker_url" if self.celery_broker_url else "redis_queue"
        url: str | None = getattr(self, name)
        if not url:
            raise BrokerNotConfigured.beside(os.environ)
        if self.is_guest and url.partition(":")[0] in AMQP_SCHEMES:
            return url  # only the app itself reads that
        return self._readable(name, url)

    def _readable(self, name: str, url: str) -> str:
        """That URL, of the setting of that name; raises ConfigError."""
        try:
            read_url(url)
        except ValueError as error:
            where = f"{self.origins.get(name, COMMON_CONFIG)}: {name!r}"
            if self.is_guest and name == "celery_broker_url":
                where = "The broker_url of the Celery app"
            raise ConfigError(f"{where} must be {error}. It is: {shown(name, url)}.") from None
        return url

    @property
    def is_amqp(self) -> bool:
        """Whether the broker is RabbitMQ."""
        return self.broker_url.partition(":")[0] in AMQP_SCHEMES

    @property
    def redis_url(self) -> str:
        """Where the records live: beside the messages if the broker is Redis."""
        if not self.is_amqp:
            return self.broker_url
        if self.redis_queue and self.redis_queue.partition(":")[0] not in AMQP_SCHEMES:
            return self._readable("redis_queue", self.redis_queue)
        raise BrokerNotConfigured(
            f"The broker {masked(self.broker_url)} carries the messages, but the jobs' records "
            "need a Redis: set 'redis_queue' in common_site_config.json."
        )

    @property
    def schedule_url(self) -> str:
        """Where the schedule lives, RedBeat's entries."""
        url = self.redbeat_redis_url
        if url is None:
            return self.redis_url
        if url.partition(":")[0] in AMQP_SCHEMES:
            raise ConfigError(
                f"{self.origins.get('redbeat_redis_url', COMMON_CONFIG)}: 'redbeat_redis_url' must "
                f"be the URL of a Redis. It is: {shown('redbeat_redis_url', url)}."
            )
        return self._readable("redbeat_redis_url", url)

    @property
    def result_backend(self) -> str:
        """Redis, or whatever Celery has a backend for."""
        url = self.celery_result_backend
        if url is None:
            return self.redis_url
        is_redis = url.partition(":")[0] in REDIS_SCHEMES
        return self._readable("celery_result_backend", url) if is_redis else url

    @property
    def keeps_results(self) -> bool:
        """Whether the ledger keeps Celery's results as well, in the step that ends a job."""
        return self.celery_result_backend is None and not self.is_guest
