"""The keys of one bench in Redis, and what all that reads or writes them begins with."""

from __future__ import annotations

from typing import NamedTuple

from frappe_jobs.ledger.connection import Connected
from frappe_jobs.message import Message
from frappe_jobs.servers.in_force import SettingsInForce

#: At-front jobs stand before the others of their queue in its index.
AHEAD = 10**10


class JobKeys(NamedTuple):
    """What Redis holds of one job, in the order in which the script takes it that ends a job."""

    record: str
    open: str
    waiting: str
    ended: str
    failed: str
    #: From the caller's job id to its newest message.
    pointer: str
    lease: str
    running: str


class BenchRedis(Connected):
    """One bench's part of a Redis."""

    def __init__(self, settings: SettingsInForce) -> None:
        super().__init__(settings.redis_url)
        self._settings = settings
        self._prefix = settings.prefix

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _keys(self, message: Message) -> JobKeys:
        return JobKeys(
            record=self._key("record", message.id), open=self._key("open", message.site),
            waiting=self._key("waiting", message.queue), ended=self._key("ended", message.site),
            failed=self._key("failed", message.queue),
            pointer=self._key("job", message.site, message.job_id),
            lease=self._key("lease", message.id), running=self._key("running"),
        )  # fmt: skip

    def _moving_keys(self, message: Message) -> list[str]:
        """record, waiting, lease, running"""
        keys = self._keys(message)
        return [keys.record, keys.waiting, keys.lease, keys.running]


def rank(message: Message) -> float:
    """Its place among those that wait in its queue."""
    return message.enqueued_at - (AHEAD if message.at_front else 0)
