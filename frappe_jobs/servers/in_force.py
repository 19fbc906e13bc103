"""The settings in force: the configuration's, and where messages, records and schedule lie.

A team's own Celery app brings its own broker.  Code that needs a server takes this type, so it
cannot be given the mere configuration.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from frappe_jobs.config import Settings
from frappe_jobs.errors import BrokerNotConfigured, ConfigError
from frappe_jobs.servers.url import read_url
from frappe_jobs.servers.url_options import AMQP_SCHEMES, REDIS_SCHEMES
from frappe_jobs.sites_folder import COMMON_CONFIG
from frappe_jobs.texts.masking import masked, shown


@dataclass(frozen=True)
class SettingsInForce(Settings):
    """A bench's settings with its servers."""

    #: Whether the Celery app is a team's own, extended with ours.
    is_guest: bool = False

    @classmethod
    def of(cls, settings: Settings, **changes: object) -> SettingsInForce:
        """The settings for an app of ours, with these changes."""
        names = (item.name for item in fields(Settings))
        values: dict[str, Any] = {name: getattr(settings, name) for name in names}
        return cls(**values | changes)

    @classmethod
    def of_guest(cls, settings: Settings, broker_url: str) -> SettingsInForce:
        """The settings for a team's own app with that broker."""
        return cls.of(settings, celery_broker_url=broker_url, is_guest=True)

    @property
    def broker_url(self) -> str:
        """As it was written; raises BrokerNotConfigured, or ConfigError if it cannot be read."""
        name = "celery_broker_url" if self.celery_broker_url else "redis_queue"
        url: str | None = getattr(self, name)
        if not url:
            raise BrokerNotConfigured.beside(os.environ)
        if self.is_guest and url.partition(":")[0] in AMQP_SCHEMES:
            return url  # only the app itself reads it
        return self._readable(name, url)

    def _readable(self, name: str, url: str) -> str:
        """The URL of the setting of that name, if it can be read; raises ConfigError."""
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
        """Where the records are: with the messages if the broker is Redis."""
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
        """Where the schedule is: RedBeat's entries."""
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

    @property
    def takes_turns(self) -> bool:
        """Whether workers file the messages of Redis's lists into the sites' turns.

        Not those of ``guests``' queues.
        """
        return self.transport == "frappe_jobs" and not self.is_amqp and self.order == "fair"

    @cached_property
    def guests(self) -> frozenset[str]:
        """The queues that workers other than ours serve, which would not see what is filed.

        Raises ConfigError for one that the bench does not have.
        """
        if self.guest_queues is None:
            return frozenset(self.queues if self.is_guest else ())
        if unknown := [name for name in self.guest_queues if name not in self.queues]:
            where = self.origins.get("guest_queues", COMMON_CONFIG)
            raise ConfigError(
                f"{where}: 'frappe_jobs_guest_queues' names {unknown[0]!r}, which is no queue of "
                f"the bench; there are: {', '.join(self.queues)}."
            )
        return frozenset(self.guest_queues)
