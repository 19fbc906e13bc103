"""The jobs of sites, latest first, read page by page: a bench may hold very many."""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import inf

from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    OPEN,
    QUEUED,
    STARTED,
    Record,
)
from frappe_jobs.message import to_json

#: Records read in one round trip, and sites whose jobs are counted in one.
PAGE, SITES = 500, 500

# gives of each site how many are in its index
SIZES = """
local sizes = {}
for n, site in ipairs(cjson.decode(ARGV[2])) do sizes[n] = redis.call('ZCARD', ARGV[1] .. site) end
return sizes
"""


class Listing:
    """What a ledger holds, site by site."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings

    def find(self, site: str, name: str) -> Record | None:
        """The newest job of that id on that site, else the site's message of that id."""
        if record := self._ledger.find(site, name):
            return record
        record = self._ledger.read(name)
        return record if record and record.message.site == site else None

    def latest(
        self, sites: Iterable[str], statuses: Collection[str] = (), queues: Collection[str] = ()
    ) -> Iterator[Record]:
        """The jobs, latest first: by their end, else by when they were enqueued.

        Read only as far as the caller iterates.  Of all statuses and queues unless some are named.
        """
        wanted = {*(statuses or (*OPEN, *ENDED))}
        streams = chain.from_iterable(self._streams(site, wanted, queues) for site in sites)
        merged = heapq.merge(*streams, key=_time_of, reverse=True)
        return (record for record in merged if not queues or record.message.queue in queues)

    def waiting(
        self, sites: Iterable[str], queues: Collection[str] = (), event: str | None = None
    ) -> Iterator[Record]:
        """The jobs that wait, latest first; of those queues and that event if any are named."""
        found = self.latest(sites, [QUEUED], queues)
        return (record for record in found if event in (None, record.message.event))

    def pending(self, site: str) -> Mapping[str, Counter[str]]:
        """How many jobs of the site wait: for each queue with some of them, by method."""
        queues: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for record in self.waiting([site]):
            queues[record.message.queue][record.message.method] += 1
        return queues

    def count_open(self, site: str) -> tuple[int, int]:
        """How many of the site's jobs wait, and how many run."""
        running = len(self._started(site))
        return max(0, self._size("open", site) - running), running

    def count_open_by_site(self, sites: Sequence[str]) -> dict[str, tuple[int, int]]:
        """The same for each of these sites, in few round trips."""
        running = Counter(record.message.site for record in self.running())
        sizes: list[int] = []
        for start in range(0, len(sites), SITES):
            some = to_json(sites[start : start + SITES])
            with self._ledger.reaching():
                sizes += self._ledger._script(SIZES)(args=[self._ledger._key("open", ""), some])
        return {
            site: (max(0, int(size) - running[site]), running[site])
            for site, size in zip(sites, sizes, strict=True)
        }

    def failed_since(self, since: float) -> Iterator[Record]:
        """The jobs of all sites that have failed since then, queue by queue, without tracebacks."""
        for queue in self._settings.queues:
            for page in self._pages("failed", queue, lowest=since):
                yield from filter(None, self._ledger.read_heads(page))

    def running(self) -> list[Record]:
        """The jobs of all sites that have begun and not ended."""
        return [*chain.from_iterable(map(self._ledger.read_all, self._pages("running")))]

    def _streams(
        self, site: str, statuses: Collection[str], queues: Collection[str]
    ) -> Iterator[Iterable[Record]]:
        """The site's records of these statuses, from the shortest indexes that have them."""
        if QUEUED in statuses:
            yield from self._queued(site, queues)
        if STARTED in statuses:
            yield self._started(site)
        if FAILED in statuses:
            for queue in queues or self._settings.queues:
                yield self._of_site(site, {FAILED}, self._pages("failed", queue))
        if others := {*statuses} & {FINISHED, CANCELLED}:
            # The index is sorted by when a record expires: failed jobs, kept longer, come before.
            longest = time.time() + self._settings.results_ttl
            yield self._of_site(site, others, self._pages("ended", site, highest=longest))

    def _queued(self, site: str, queues: Collection[str]) -> Iterator[Iterator[Record]]:
        """The jobs that wait, from the site's index or from the queues', whichever is shorter."""
        of_queues = sum(self._size("waiting", queue) for queue in queues)
        is_whole = not any(
            self._ledger.count_delayed(queues)
        )  # those are in the site's index alone
        if queues and is_whole and of_queues < self._size("open", site):
            for queue in queues:  # at-front jobs have a range of their own there
                for low, high in ((-inf, 0.0), (0.0, inf)):
                    pages = self._pages("waiting", queue, lowest=low, highest=high)
                    yield self._of_site(site, {QUEUED}, pages)
        else:
            yield self._of_site(site, {QUEUED}, self._pages("open", site))

    def _started(self, site: str) -> list[Record]:
        """The jobs that run: at most as many as there are processes."""
        return sorted(
            self._of_site(site, {STARTED}, self._pages("running")), key=_time_of, reverse=True
        )

    def _of_site(
        self, site: str, statuses: Collection[str], pages: Iterable[list[str]]
    ) -> Iterator[Record]:
        for record in chain.from_iterable(map(self._ledger.read_all, pages)):
            if record.message.site == site and record.status in statuses:
                yield record

    def _pages(
        self, *index: str, highest: float = inf, lowest: float = -inf
    ) -> Iterator[list[str]]:
        """The ids in an index, highest score first.

        Each page begins at the score at which the page before has ended: only ids that come or go
        meanwhile may be missing.
        """
        key, last = self._ledger._key(*index), set[str]()  # the ids of the score that is reached
        while page := self._page(key, highest, lowest, PAGE + len(last)):
            fresh = [message_id for message_id, _ in page if message_id not in last]
            if not fresh:
                return
            yield fresh
            highest = page[-1][1]
            last = {message_id for message_id, score in page if score == highest}

    def _page(self, key: str, highest: float, lowest: float, size: int) -> list[tuple[str, float]]:
        with self._ledger.reaching():
            found: list[tuple[str, float]] = self._ledger.redis.zrevrangebyscore(
                key, highest, lowest, 0, size, withscores=True
            )
            return found

    def _size(self, *index: str) -> int:
        with self._ledger.reaching():
            return int(self._ledger.redis.zcard(self._ledger._key(*index)))


def _time_of(record: Record) -> float:
    return record.ended_at or record.message.enqueued_at
