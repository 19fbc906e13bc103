"""What is wanted of several places, put into one order, as far as the work for a page goes."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from math import inf
from typing import Protocol

from frappe_jobs.ledger.connection import as_bytes
from frappe_jobs.ledger.cursor import Position
from frappe_jobs.ledger.record import Record
from frappe_jobs.ledger.wanted import Wanted

#: Jobs that a page looks at, about; and what a round trip costs, in such jobs.
BOUND, CALL = 20_000, 50
#: Seconds after which it ends as well, as jobs may be large; not before it has looked at so many.
SECONDS, LEAST = 0.15, 2_000


class Source(Protocol):
    """Where wanted jobs come from, latest first."""

    is_of_site: bool

    @property
    def next(self) -> Position | None:
        """The place of the next wanted job, or a place before that; None if there is none."""

    def take(self) -> Position | None:
        """The place of the next wanted job; None if ``look`` must find it first."""

    def look(self, limit: int) -> int:
        """Look at some more of it; how many they were."""


class Few:
    """Some jobs whose records are at hand."""

    is_of_site = True

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

    def look(self, limit: int) -> int:
        return 0


class Walk(Iterator[Position]):
    """The wanted jobs of several sources, latest first, as far as the work for a page goes."""

    def __init__(self, sources: Sequence[Source], limit: int) -> None:
        self._limit, self._left = limit, BOUND
        self._until = time.monotonic() + SECONDS
        self.looked = 0
        #: Where it ended as it had done so much; None while it goes on, or if all is read.
        self.cut_at: Position | None = None
        self._heap = [
            (_down(place), n, source) for n, source in enumerate(sources) if (place := source.next)
        ]
        heapq.heapify(self._heap)

    def __next__(self) -> Position:
        while self._heap:
            _, number, source = self._heap[0]
            place = source.take()
            if place is None:
                if self._is_over():
                    self.cut_at = source.next
                    break
                looked = source.look(self._limit)
                self._left -= looked + CALL
                self.looked += looked * source.is_of_site
            if behind := source.next:
                heapq.heapreplace(self._heap, (_down(behind), number, source))
            else:
                heapq.heappop(self._heap)
            if place:
                return place
        raise StopIteration

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
