"""Messages that no worker may run any more, though the broker may have them yet."""

from __future__ import annotations

from collections.abc import Iterable

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.message import Message

#: Seconds for which a cancelled job's message may wait in a queue without being run after all.
DROPPED_TTL = 30 * 24 * 3600
#: And once a worker has got it: until what it holds has surely come back or is gone.
TAKEN_TTL = 600


class Dropped(BenchRedis):
    """The marks of such messages."""

    @reachable
    def drop(self, message_id: str) -> None:
        """Have a worker that gets this message drop it, though nothing is known of it."""
        self.redis.set(self._key("dropped", message_id), "", ex=DROPPED_TTL)

    @reachable
    def dropped(self, message_ids: Iterable[str]) -> list[str]:
        """Those of the messages that no worker may run any more."""
        asked = list(message_ids)
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id in asked:
                pipe.exists(self._key("dropped", message_id))
            return [one for one, found in zip(asked, pipe.execute(), strict=True) if found]

    @reachable
    def forget_dropped(self, message_ids: Iterable[str]) -> None:
        """Note that no worker will get these messages."""
        if keys := [self._key("dropped", message_id) for message_id in message_ids]:
            self.redis.delete(*keys)

    def _was_dropped(self, message: Message) -> bool:
        """Whether no worker may run it any more; one has got it now, so that ends soon.

        Not at once: should the worker's word be lost that it is done, another one gets it again.
        """
        seconds = max(TAKEN_TTL, 10 * self._settings.lease)
        return bool(self.redis.expire(self._key("dropped", message.id), seconds))
