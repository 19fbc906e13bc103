"""Jobs whose messages the broker may have lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import AHEAD
from frappe_jobs.ledger.reading import Records
from frappe_jobs.ledger.record import OPEN, QUEUED, Record
from frappe_jobs.message import Message

#: Of each queue so many jobs are looked at, where messages may be lost.
SUSPECTS = 100


class Lost(Records):
    """What is known of such messages."""

    @reachable
    def sent(self, messages: Sequence[Message]) -> None:
        """Note that the broker has these messages; those that were pushed it has in any case."""
        if messages:
            self.redis.zrem(self._key("unsent"), *(message.id for message in messages))

    @reachable
    def unsent_of(self, message_ids: Sequence[str]) -> dict[str, float]:
        """Those of the messages that nobody has noted as sent, and when they were recorded."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id in message_ids:
                pipe.zscore(self._key("unsent"), message_id)
            found = zip(message_ids, pipe.execute(), strict=True)
            return {one: float(at) for one, at in found if at is not None}

    @reachable
    def unsent(self, until: float) -> list[Record]:
        """What was recorded until then and still waits, though nobody noted that it was sent."""
        ids = self.redis.zrangebyscore(self._key("unsent"), "-inf", until)
        records = self.read_all(ids)
        begun = {*ids} - {one.message.id for one in records if one.status == QUEUED}
        if begun:  # so they were sent
            self.redis.zrem(self._key("unsent"), *begun)
        return [one for one in records if one.status == QUEUED]

    @reachable
    def suspects(
        self,
        queues: Iterable[str],
        *,
        waiting_since: float,
        looked_for: float,
        limit: int = SUSPECTS,
    ) -> list[Record]:
        """The jobs whose messages may be lost: of each queue those that have waited longest.

        They wait, or have been without a lease, since that time or before, and nobody has looked
        for their messages since the other one.
        """
        ids = self.redis.zrangebyscore(self._key("running"), "-inf", waiting_since)
        leases = self.redis.mget([self._key("lease", one) for one in ids]) if ids else []
        ids = [one for one, lease in zip(ids, leases, strict=True) if lease is None]
        for queue in queues:
            for ahead in (AHEAD, 0):
                ids += self.redis.zrangebyscore(
                    self._key("waiting", queue), -ahead, waiting_since - ahead, 0, limit
                )
        return [
            one
            for one in self.read_all(ids)
            if one.status in OPEN  # it may have ended meanwhile
            and (one.due or 0) <= waiting_since
            and (one.looked_for or 0) <= looked_for
        ]

    @reachable
    def looked_for(self, messages: Sequence[Message], now: float) -> None:
        """Note that these messages were looked for, and found or sent again."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.hset(self._key("record", message.id), "looked_for", now)
            pipe.execute()
