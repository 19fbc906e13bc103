"""The keys of one bench in Redis, and what all that reads or writes them begins with."""

from __future__ import annotations

from typing import NamedTuple

from frappe_jobs.ledger.connection import Connected
from frappe_jobs.message import Message
from frappe_jobs.servers.in_force import SettingsInForce

#: At-front jobs stand before the others of their queue in its index.
AHEAD = 10**10


class JobKeys(NamedTuple):
    """What Redis holds of one job, by the names that the scripts give it, in this order."""

    record: str
    open: str
    waiting: str
    ended: str
    failed: str
    #: From the caller's job id to its newest message; the prefix where nobody asks by that id.
    pointer: str
    lease: str
    running: str


class BenchRedis(Connected):
    """One bench's part of a Redis; ``is_searchable`` is what its broker says of itself."""

    def __init__(self, settings: SettingsInForce, *, is_searchable: bool = True) -> None:
        super().__init__(settings.redis_url)
        self._settings, self._is_searchable = settings, is_searchable
        self._prefix = settings.prefix

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _keys(self, message: Message) -> JobKeys:
        made = message.job_id == message.id  # no pointer: a key that an access list allows
        return JobKeys(
            record=self._key("record", message.id), open=self._key("open", message.site),
            waiting=self._key("waiting", message.queue), ended=self._key("ended", message.site),
            failed=self._key("failed", message.queue),
            pointer=self._prefix if made else self._key("job", message.site, message.job_id),
            lease=self._key("lease", message.id), running=self._key("running"),
        )  # fmt: skip


def rank(message: Message) -> float:
    """Its place among those that wait in its queue."""
    return message.enqueued_at - (AHEAD if message.at_front else 0)
