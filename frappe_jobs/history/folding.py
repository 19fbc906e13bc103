"""Minutes that are over go from their hashes into the chunks, exactly once each.

Counting must be quick, so a minute's hash is large; folded it takes a fiftieth of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from frappe_jobs.history.chunk import BOUNDS, OTHERS, Chunk, read_fields
from frappe_jobs.history.keys import KINDS, MINUTE, RESOLUTIONS, TOTALS, UNFOLDED, Resolution
from frappe_jobs.ledger import Ledger

#: Minutes that one call folds at most: a worker that comes back has many before it.
AT_ONCE = 60
#: A chunk outlives what it has to keep by its own length and this, in seconds.
SLACK = 600


class Folding:
    """Of one bench."""

    def __init__(self, ledger: Ledger, queues: Mapping[str, object]) -> None:
        self._ledger, self._queues = ledger, queues

    def fold(self) -> int:
        """Fold the minutes that are over; note that this minute is looked at, also if it is quiet.

        Gives how many were folded.  Any number of processes may do it at once.
        Raises BrokerUnavailable.
        """
        with self._ledger.reaching():
            now = self._ledger.redis.time()[0] // MINUTE
            unfolded = self._ledger._key(UNFOLDED)
            over = self._ledger.redis.zrangebyscore(unfolded, "-inf", now - 1, 0, AT_ONCE)
            self._ledger.redis.zadd(unfolded, {str(now): now})
            return sum(self._fold(int(minute)) for minute in over)

    def _fold(self, minute: int) -> bool:
        """Whether this call folded it: one transaction, and whole or not at all."""
        ledger = self._ledger
        hashes = {kind: ledger._key("history", kind, str(minute)) for kind in KINDS}
        with ledger.redis.pipeline() as pipe:
            try:
                pipe.watch(*hashes.values())  # empty where somebody else has folded it
                counted = {
                    kind: read_fields(pipe.hgetall(key).items()) for kind, key in hashes.items()
                }
                chunks = [
                    self._chunk(pipe, kind, minute, resolution, counted[kind])
                    for kind in KINDS for resolution in RESOLUTIONS
                ]  # fmt: skip
                pipe.multi()
                for key, chunk, seconds in chunks:
                    pipe.set(key, chunk.packed(), ex=seconds)
                self._add_totals(pipe, counted["queue"])
                pipe.delete(*hashes.values())
                pipe.zrem(ledger._key(UNFOLDED), str(minute))
                pipe.execute()
            except redis.WatchError:  # somebody else folds it, or a clock was set back
                return False
        return True

    def _chunk(
        self, pipe: Any, kind: str, minute: int, resolution: Resolution, counted: Any
    ) -> tuple[str, Chunk, int]:
        """Its key, what it holds with that minute, and how long it is kept."""
        number, slot = resolution.place(minute * MINUTE)
        key = self._ledger._key("history", resolution.name, kind, str(number))
        pipe.watch(key)
        chunk = Chunk.unpacked(as_bytes(pipe.get(key)), resolution.slots)
        chunk.add(slot, counted)
        chunk.bound(BOUNDS[kind])
        return key, chunk, resolution.kept + resolution.chunk + SLACK

    def _add_totals(self, pipe: Any, counted: Mapping[str, Mapping[str, int]]) -> None:
        """What was ever counted, of the queues that there are."""
        key = self._ledger._key(TOTALS)
        for queue, codes in counted.items():
            name = queue if queue in self._queues else OTHERS
            for code, many in codes.items():
                pipe.hincrby(key, f"{code}:{name}", many)


def as_bytes(text: str | None) -> bytes | None:
    """What lies in Redis, from what its client has made of it."""
    return None if text is None else text.encode("utf-8", "surrogateescape")
