"""Minutes that are over go from their hashes into one small text each, and hours into chunks.

Counting must be quick, so a minute's hash is large; in a chunk it takes a twentieth of that.  Each
step is one transaction on what it has read: exactly once, whoever is killed or does it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import redis

from frappe_jobs.history.chunk import BOUNDS, OTHERS, Chunk, read_minute
from frappe_jobs.history.counts import Codes
from frappe_jobs.history.keys import (
    APART,
    HOUR,
    KINDS,
    MINUTE,
    RESOLUTIONS,
    TOTALS,
    UNFOLDED,
    Resolution,
)
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.counting import JOBS
from frappe_jobs.ledger.counting import UNFOLDED as KEPT

#: Minutes that one call folds at most: a worker that comes back has many before it.
AT_ONCE = 60
#: A chunk outlives what it has to keep by its own length and this, in seconds.
SLACK = 600


class Text(NamedTuple):
    """What is written to Redis, and for how many seconds."""

    key: str
    chunk: Chunk
    seconds: int


class Folding:
    """Of one bench."""

    def __init__(self, ledger: Ledger, queues: Mapping[str, object]) -> None:
        self._ledger, self._queues = ledger, queues

    def fold(self) -> int:
        """Fold the minutes that are over; note that this minute is looked at, also if it is quiet.

        Gives how many were folded.  Any number of processes may do it at once.
        Raises BrokerUnavailable.
        """
        server, unfolded = self._ledger.redis, self._ledger._key(UNFOLDED)
        with self._ledger.reaching():
            now = server.time()[0] // MINUTE
            over = server.zrangebyscore(unfolded, "-inf", now - 1, 0, AT_ONCE)
            server.zadd(unfolded, {str(now): now})
            folded = sum(self._whole(self._set_apart, int(minute)) for minute in over)
            hour = now * MINUTE // HOUR
            rest = server.zrangebyscore(self._ledger._key(APART), "-inf", hour * HOUR // MINUTE - 1)
            for one in sorted({int(minute) * MINUTE // HOUR for minute in rest}):
                self._whole(self._put_together, one)
        return folded

    def _whole(self, fold: Callable[[Any, int], None], number: int) -> bool:
        """Whether this call folded it: one transaction, and whole or not at all."""
        with self._ledger.redis.pipeline() as pipe:
            try:
                fold(pipe, number)
                pipe.execute()
            except redis.WatchError:  # somebody else folds it, or a clock was set back
                return False
        return True

    def _set_apart(self, pipe: Any, minute: int) -> None:
        """From its hashes into a text for each kind; and what was ever counted grows."""
        hashes = {kind: self._ledger._key("history", kind, str(minute)) for kind in (JOBS, *KINDS)}
        pipe.watch(*hashes.values())  # empty where somebody else has folded it
        fields = {kind: pipe.hgetall(key).items() for kind, key in hashes.items()}
        counted = {kind: read_minute(kind, fields[JOBS], fields[kind]) for kind in KINDS}
        texts = [
            self._added(pipe, apart(self._ledger, kind, minute), kind, 1, KEPT, [(0, rows)])
            for kind, rows in counted.items()
        ]
        pipe.multi()
        _write(pipe, texts)
        self._add_totals(pipe, counted["queue"])
        pipe.delete(*hashes.values())
        pipe.zrem(self._ledger._key(UNFOLDED), str(minute))
        pipe.zadd(self._ledger._key(APART), {str(minute): minute})

    def _put_together(self, pipe: Any, hour: int) -> None:
        """The hour's minutes from their texts into one chunk by minute, and one by hour."""
        first, last = hour * HOUR // MINUTE, (hour + 1) * HOUR // MINUTE - 1
        index = self._ledger._key(APART)
        pipe.watch(index)
        minutes = [int(minute) for minute in pipe.zrangebyscore(index, first, last)]
        if not minutes:  # somebody else has done it
            return
        keys = [apart(self._ledger, kind, minute) for kind in KINDS for minute in minutes]
        pipe.watch(*keys)
        texts = [
            text
            for kind in KINDS
            for text in self._chunks(pipe, kind, self._read(pipe, kind, minutes))
        ]
        pipe.multi()
        _write(pipe, texts)
        pipe.delete(*keys)
        pipe.zremrangebyscore(index, first, last)

    def _read(
        self, pipe: Any, kind: str, minutes: Sequence[int]
    ) -> list[tuple[int, dict[str, Codes]]]:
        """What was counted in each of these minutes."""
        found: list[tuple[int, dict[str, Codes]]] = []
        for minute in minutes:
            chunk = Chunk.unpacked(pipe.get(apart(self._ledger, kind, minute)), 1)
            found.append((minute, {name: chunk.codes(name, 0) for name in chunk.rows}))
        return found

    def _chunks(
        self, pipe: Any, kind: str, counted: Sequence[tuple[int, dict[str, Codes]]]
    ) -> Iterator[Text]:
        for resolution in RESOLUTIONS:
            number = counted[0][0] * MINUTE // resolution.chunk
            key = chunk_key(self._ledger, resolution, kind, number)
            slots = [(resolution.place(minute * MINUTE)[1], rows) for minute, rows in counted]
            seconds = resolution.kept + resolution.chunk + SLACK
            yield self._added(pipe, key, kind, resolution.slots, seconds, slots)

    def _added(
        self, pipe: Any, key: str, kind: str, slots: int, seconds: int,
        counted: Sequence[tuple[int, Mapping[str, Codes]]],
    ) -> Text:  # fmt: skip
        """The key's chunk with these slots counted in; what lies there stays till then."""
        pipe.watch(key)
        chunk = Chunk.unpacked(pipe.get(key), slots)
        for slot, rows in counted:
            chunk.add(slot, rows)
        chunk.bound(BOUNDS[kind])
        return Text(key, chunk, seconds)

    def _add_totals(self, pipe: Any, counted: Mapping[str, Codes]) -> None:
        """What was ever counted, of the queues that there are."""
        key = self._ledger._key(TOTALS)
        for queue, codes in counted.items():
            name = queue if queue in self._queues else OTHERS
            for code, many in codes.items():
                pipe.hincrby(key, f"{code}:{name}", many)


def _write(pipe: Any, texts: Sequence[Text]) -> None:
    for text in texts:
        pipe.set(text.key, text.chunk.packed(), ex=text.seconds)


def apart(ledger: Ledger, kind: str, minute: int) -> str:
    """The key of a minute's text."""
    return ledger._key(APART, kind, str(minute))


def chunk_key(ledger: Ledger, resolution: Resolution, kind: str, number: int) -> str:
    return ledger._key("history", resolution.name, kind, str(number))
