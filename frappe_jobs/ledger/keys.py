"""The keys of one bench in Redis, and the base of all that reads or writes them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import uuid4

from frappe_jobs.ledger.connection import Connected
from frappe_jobs.message import Message
from frappe_jobs.servers.in_force import SettingsInForce

#: Taken from the rank of an at-front job, so that it stands before the others of its queue.
AHEAD = 10**10


class JobKeys(NamedTuple):
    """The keys of one job, in this order and by these names in the scripts."""

    record: str
    open: str
    waiting: str
    ended: str
    failed: str
    #: From the caller's job id to its newest message; the bare prefix where the id was generated.
    pointer: str
    lease: str
    running: str
    #: Where it waits for its time: as it was enqueued, or once it was put back.
    delayed: str
    retrying: str
    #: Where it waits because a limit had no room for it.
    limited: str


class BenchRedis(Connected):
    """One bench's part of a Redis; ``is_searchable`` is what its broker says of itself."""

    def __init__(self, settings: SettingsInForce, *, is_searchable: bool = True) -> None:
        super().__init__(settings.redis_url)
        self._settings, self._is_searchable = settings, is_searchable
        self._prefix = settings.prefix
        #: Tells who sends a message from others that send another one of the same job.
        self._sender = uuid4().hex[:12]

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _keys(self, message: Message) -> JobKeys:
        generated = message.job_id == message.id  # the prefix: a key that an access list allows
        return JobKeys(
            record=self._key("record", message.id), open=self._key("open", message.site),
            waiting=self._key("waiting", message.queue), ended=self._key("ended", message.site),
            failed=self._key("failed", message.queue),
            pointer=self._prefix if generated else self._key("job", message.site, message.job_id),
            lease=self._key("lease", message.id), running=self._key("running"),
            delayed=self._key("delayed", message.queue),
            retrying=self._key("retrying", message.queue),
            limited=self._key("limited", message.queue),
        )  # fmt: skip


def rank(message: Message) -> float:
    """What its queue's waiting jobs are sorted by."""
    return message.enqueued_at - (AHEAD if message.at_front else 0)
