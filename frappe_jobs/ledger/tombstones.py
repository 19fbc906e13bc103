"""Tombstones: what outlives the record of a job, so that no late message of it runs again.

A bucket holds those of the messages that were made in one hour, so one look finds a tombstone; it
has 12 characters, and among a million no two are alike.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.message import Message

#: Seconds for which a tombstone stands: of a job that a worker had, whose message comes back soon
#: or never; and of a cancelled job, whose message may wait in a queue for long.
AFTER_A_RUN = 3 * 24 * 3600
WHILE_IT_WAITS = 30 * 24 * 3600


class Tombstone(NamedTuple):
    """Where it stands, and for how many seconds."""

    bucket: str
    name: str
    ttl: int


class Tombstones(BenchRedis):
    """The tombstones of one bench."""

    @reachable
    def bury(self, messages: Sequence[Message]) -> None:
        """Have any worker that gets one of these messages drop it, even if no record is kept."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                bucket, name, ttl = self._tombstone(message, was_run=False)
                pipe.sadd(bucket, name)
                pipe.expire(bucket, ttl)
            pipe.execute()

    @reachable
    def buried(self, messages: Sequence[Message]) -> set[str]:
        """The ids of the messages that no worker may run any more."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                for was_run in (True, False):
                    bucket, name, _ = self._tombstone(message, was_run)
                    pipe.sismember(bucket, name)
            replies = pipe.execute()
        return {
            message.id
            for message, *found in zip(messages, replies[::2], replies[1::2], strict=True)
            if any(found)
        }

    def _tombstone(self, message: Message, was_run: bool) -> Tombstone:
        kind, ttl = ("ended", AFTER_A_RUN) if was_run else ("cancelled", WHILE_IT_WAITS)
        bucket = self._key("tombstones", kind, hour_of(message))
        return Tombstone(bucket, name_of(message), ttl)


def hour_of(message: Message) -> str:
    """The hour in which it was made, which names its bucket."""
    return str(int(message.enqueued_at // 3600))


def name_of(message: Message) -> str:
    """72 bits of its id, as text."""
    try:
        raw = UUID(message.id).bytes
    except ValueError:  # the id was not generated here
        raw = sha256(message.id.encode()).digest()
    return urlsafe_b64encode(raw[:6] + raw[-3:]).decode()
