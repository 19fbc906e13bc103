"""What is wanted of several places, put into one order, as far as the work for a page goes."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from itertools import count
from math import inf
from typing import Protocol

from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.connection import as_bytes
from frappe_jobs.ledger.cursor import Position
from frappe_jobs.ledger.heads import Nearest
from frappe_jobs.ledger.record import Record
from frappe_jobs.ledger.sieve import Stream, look
from frappe_jobs.ledger.wanted import Wanted

#: Jobs that a page looks at, about; what a round trip costs, and each index in it, in such jobs.
BOUND, CALL, EACH = 20_000, 50, 2
#: Indexes that are looked at together, in one round trip.
TOGETHER = 64
#: Seconds after which it ends as well, as jobs may be large; not before it has looked at so many.
SECONDS, LEAST = 0.15, 2_000


class Source(Protocol):
    """Where wanted jobs come from, latest first."""

    @property
    def next(self) -> Position | None:
        """The place of the next wanted job, or a place before that; None if there is none."""

    def take(self) -> Position | None:
        """The place of the next wanted job; None if a look must find it first."""


#: What a heap sorts a source by; a number of its own; the source.
Entry = tuple[tuple[float, bytes], int, Source]


class Few:
    """Some jobs whose records are at hand."""

    def __init__(self, wanted: Wanted, records: Sequence[Record], begun: Position) -> None:
        low = -inf if wanted.since is None else wanted.since
        high = inf if wanted.until is None else wanted.until
        places = (place_of(record) for record in records if wanted.fits(record))
        self._left = sorted(at for at in places if at < begun and low <= at.time <= high)

    @property
    def next(self) -> Position | None:
        return self._left[-1] if self._left else None

    def take(self) -> Position | None:
        return self._left.pop()


class Walk(Iterator[Position]):
    """The wanted jobs of several sources, latest first, as far as the work for a page goes."""

    def __init__(
        self, ledger: Ledger, limit: int, nearest: Nearest, sources: Sequence[Source] = ()
    ) -> None:
        self._ledger, self._limit, self._left, self._nearest = ledger, limit, BOUND, nearest
        self.looked = 0
        #: Where it ended as it had done so much; None while it goes on, or if all is read.
        self.cut_at: Position | None = None
        self._numbers, self._heap = count(), list[Entry]()
        self._add([*sources, *nearest.first(limit)])
        self._until = time.monotonic() + SECONDS

    def __next__(self) -> Position:
        while self._heap or self._nearest.next:
            if self._is_rests_turn():
                self._add(self._nearest.rest())
                continue
            _, number, source = self._heap[0]
            place = source.take()
            if place is None:
                if self._is_over():
                    self.cut_at = source.next
                    break
                self._look()
                continue
            if behind := source.next:
                heapq.heapreplace(self._heap, (_down(behind), number, source))
            else:
                heapq.heappop(self._heap)
            return place
        raise StopIteration

    def _add(self, sources: Sequence[Source]) -> None:
        for source in sources:
            if place := source.next:
                heapq.heappush(self._heap, (_down(place), next(self._numbers), source))

    def _is_rests_turn(self) -> bool:
        rest = self._nearest.next
        return rest is not None and (not self._heap or _down(rest) <= self._heap[0][0])

    def _look(self) -> None:
        """Look at those that come next, whose jobs are not known yet."""
        is_only = len(self._heap) == 1 and self._nearest.next is None
        some = [heapq.heappop(self._heap) for _ in range(min(len(self._heap), TOGETHER))]
        sources = [source for _, _, source in some]
        asked = [one for one in sources if isinstance(one, Stream) and not one.is_ready]
        looked, of_sites = look(self._ledger, asked, self._limit, is_only=is_only)
        self._left -= looked + CALL + EACH * len(asked)
        self.looked += of_sites
        self._add(sources)

    def _is_over(self) -> bool:
        done = BOUND - self._left
        return self._left <= 0 or done >= LEAST and time.monotonic() > self._until


def place_of(record: Record) -> Position:
    """Its place among all jobs."""
    at = record.ended_at or record.message.enqueued_at
    return Position(at, as_bytes(record.message.id))


def _down(place: Position) -> tuple[float, bytes]:
    """What a heap sorts it by: latest first, at one moment from z to a."""
    return -place.time, bytes(255 - byte for byte in place.id) + b"\xff"
