"""The jobs of a site, latest first, read page by page: a bench may hold very many."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import ENDED, FAILED, OPEN, QUEUED, Record, parse_record

#: Records read in one round trip.
PAGE = 500


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
        """The jobs by their end, or while they have none by when they were enqueued, latest first.

        Read as far as they are asked for.  Of all statuses, and of all queues, unless some are
        named.
        """
        wanted = set(statuses or (*OPEN, *ENDED))
        streams = []
        for site in sites:
            if wanted & {*OPEN}:
                streams.append(self._open(site, wanted & {*OPEN}))
            if FAILED in wanted:
                streams += [self._failed(site, name) for name in self._settings.queues]
            if others := wanted & {*ENDED} - {FAILED}:
                streams.append(self._ended(site, others))
        merged = heapq.merge(*streams, key=_moment, reverse=True)
        return (record for record in merged if not queues or record.message.queue in queues)

    def waiting(
        self, sites: Iterable[str], queues: Collection[str] = (), event: str | None = None
    ) -> Iterator[Record]:
        """The jobs that wait, of those queues and that event if any are named."""
        for record in chain.from_iterable(self._open(site, {QUEUED}) for site in sites):
            message = record.message
            if (not queues or message.queue in queues) and event in (None, message.event):
                yield record

    def count_open(self, site: str) -> Counter[str]:
        """How many of the site's jobs wait, and how many run."""
        key = self._ledger._key("open", site)
        return Counter(
            status for page in self._pages(key) for status in self._statuses(page) if status
        )

    def _open(self, site: str, statuses: Collection[str]) -> Iterator[Record]:
        for page in self._pages(self._ledger._key("open", site)):
            found = zip(page, self._statuses(page), strict=True)
            yield from self._read([one for one, status in found if status in statuses], statuses)

    def _failed(self, site: str, queue: str) -> Iterator[Record]:
        for page in self._pages(self._ledger._key("failed", queue)):
            yield from (one for one in self._read(page, {FAILED}) if one.message.site == site)

    def _ended(self, site: str, statuses: Collection[str]) -> Iterator[Record]:
        # The index goes by when a record's time is over; failed jobs, kept longer, come before.
        longest = time.time() + self._settings.results_ttl
        for page in self._pages(self._ledger._key("ended", site), str(longest)):
            yield from self._read(page, statuses)

    def _pages(self, key: str, highest: str = "+inf") -> Iterator[list[str]]:
        """The ids in an index, highest score first.

        Others come and go meanwhile: an id may come twice, or be passed over.
        """
        start = 0
        while True:
            with self._ledger.reaching():
                page = self._ledger.redis.zrevrangebyscore(key, highest, "-inf", start, PAGE)
            if not page:
                return
            yield page
            start += PAGE

    def _statuses(self, ids: Iterable[str]) -> list[str | None]:
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            for message_id in ids:
                pipe.hget(self._ledger._key("record", message_id), "status")
            return list(pipe.execute())

    def _read(self, ids: Collection[str], statuses: Collection[str]) -> Iterator[Record]:
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            for message_id in ids:
                pipe.hgetall(self._ledger._key("record", message_id))
            records = [parse_record(fields) for fields in pipe.execute()]
        return (one for one in records if one and one.status in statuses)


def _moment(record: Record) -> float:
    return record.ended_at or record.message.enqueued_at
