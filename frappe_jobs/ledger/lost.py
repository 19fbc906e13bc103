"""Jobs whose messages the broker may have lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import AHEAD
from frappe_jobs.ledger.reading import Records
from frappe_jobs.ledger.record import OPEN, STARTED, Record
from frappe_jobs.message import Message

#: How many are noted in one step.
STEP = 500
#: How many jobs of each queue are looked at in one sweep.
SUSPECTS = 100
#: Unsent jobs looked at in one call: a broker that was away for long leaves very many.
UNSENT = 10_000


# After the sender the ids.  Another sender's note stays: a job that was refused by a limit, or put
# back, meanwhile may have been noted anew, and that message may not be sent yet.
SENT = """
local unsent, prefix, sender = KEYS[1], unpack(ARGV, 1, 2)
for n = 3, #ARGV do
  local other = redis.call('HGET', prefix .. 'record:' .. ARGV[n], 'sender')
  if not other or other == sender then redis.call('ZREM', unsent, ARGV[n]) end
end
"""

# After the sender the ids.
SENDING = """
local unsent, prefix, sender = KEYS[1], unpack(ARGV, 1, 2)
for n = 3, #ARGV do
  if redis.call('ZSCORE', unsent, ARGV[n]) then
    redis.call('HSET', prefix .. 'record:' .. ARGV[n], 'sender', sender)
  end
end
"""


class Lost(Records):
    """Notes what was sent and looked for, and says which messages may be lost."""

    @reachable
    def sending(self, messages: Sequence[Message]) -> None:
        """Note that the caller sends these messages now, which somebody else has not."""
        self._note_each(SENDING, messages)

    @reachable
    def sent(self, messages: Sequence[Message]) -> None:
        """Note that the broker has these messages; not needed for those that ``record`` pushed.

        Not for those that somebody else has noted since as unsent.
        """
        self._note_each(SENT, messages)

    def _note_each(self, script: str, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), STEP):
            ids = [message.id for message in messages[start : start + STEP]]
            self._script(script)(
                keys=[self._key("unsent")], args=[self._prefix, self._sender, *ids]
            )

    @reachable
    def unsent_of(self, message_ids: Sequence[str]) -> dict[str, float]:
        """The messages of these that nobody has noted as sent, and when they were recorded."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id in message_ids:
                pipe.zscore(self._key("unsent"), message_id)
            times = zip(message_ids, pipe.execute(), strict=True)
            return {message_id: float(at) for message_id, at in times if at is not None}

    @reachable
    def unsent(self, until: float, limit: int = UNSENT) -> list[Record]:
        """The jobs noted as unsent until then that wait, or whose process is gone.

        At most ``limit`` are looked at, those that were noted first.  One that runs is looked at
        again later: what was not sent may be the message that comes when its process dies.  So is
        one that waits for its time.
        """
        ids = self.redis.zrangebyscore(self._key("unsent"), "-inf", until, start=0, num=limit)
        records = [record for record in self.read_all(ids) if record.status in OPEN]
        if ended := {*ids}.difference(record.message.id for record in records):
            self.redis.zrem(self._key("unsent"), *ended)
        running = [record.message.id for record in records if record.status == STARTED]
        leased = {*running}.difference(self._without_lease(running))
        return [
            record
            for record in records
            if record.message.id not in leased and (record.due or 0) <= until
        ]

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

        They have waited, or run without a lease, at least since ``waiting_since``, and nobody has
        looked for their messages since ``looked_for``.
        """
        running = self.redis.zrangebyscore(self._key("running"), "-inf", waiting_since)
        ids = self._without_lease(running)
        for queue in queues:
            for ahead in (AHEAD, 0):
                ids += self.redis.zrangebyscore(
                    self._key("waiting", queue), -ahead, waiting_since - ahead, 0, limit
                )
        return [
            record
            for record in self.read_all(ids)
            if record.status in OPEN  # it may have ended meanwhile
            and (record.due or 0) <= waiting_since
            and (record.limited_since or 0) <= waiting_since  # else it is in that place by now
            and (record.looked_for or 0) <= looked_for
        ]

    def _without_lease(self, ids: Sequence[str]) -> list[str]:
        leases = self.redis.mget([self._key("lease", one) for one in ids]) if ids else []
        return [one for one, lease in zip(ids, leases, strict=True) if lease is None]

    @reachable
    def looked_for(self, messages: Sequence[Message], now: float) -> None:
        """Note that these messages were looked for, and found or sent again."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.hset(self._key("record", message.id), "looked_for", now)
            pipe.execute()
