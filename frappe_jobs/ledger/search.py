"""A search for jobs: any filters together, latest first, page by page, by a cursor.

Each page does bounded work, however many jobs there are: where few of those that are looked at are
wanted, it ends early, and its cursor goes on behind them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any

from frappe_jobs.config import Settings
from frappe_jobs.errors import ArgumentError, shortened
from frappe_jobs.ledger import Ledger, cursor
from frappe_jobs.ledger.cursor import START, Position
from frappe_jobs.ledger.heads import Family, Nearest
from frappe_jobs.ledger.indexes import Choice, Indexes, Plan
from frappe_jobs.ledger.keys import AHEAD
from frappe_jobs.ledger.record import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    QUEUED,
    STARTED,
    Record,
)
from frappe_jobs.ledger.sieve import Kind
from frappe_jobs.ledger.walk import Few, Walk
from frappe_jobs.ledger.wanted import Wanted, mark

#: Jobs on a page, at most.
LONGEST_PAGE = 1_000


@dataclass(frozen=True)
class Page:
    """Some of the jobs that are wanted, latest first; without their results and tracebacks."""

    records: Sequence[Record]
    #: Of the next page; None: there are no more.
    cursor: str | None
    #: About so many jobs of the sites were looked at.
    looked: int
    #: It ended before it was full, as it had looked at so many, or for so long: the next page goes
    #: on behind them.
    is_cut: bool


class Searches:
    """Makes the searches of a process in what a ledger holds."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings
        self._indexes = Indexes(ledger, settings)

    def find(self, sites: Sequence[str], **filters: Any) -> Search:
        """One with the filters of ``Wanted``; raises ArgumentError for one that fits no job."""
        return Search(self._ledger, self._settings, self._indexes, Wanted(sites, **filters))


class Search:
    """A search in what a ledger holds.

    The jobs come by their end, or while they have none by when they were enqueued, latest first.
    Only those of the sites that it was made for are ever looked at for it.
    """

    def __init__(
        self, ledger: Ledger, settings: Settings, indexes: Indexes, wanted: Wanted
    ) -> None:
        self._ledger, self._settings, self._wanted = ledger, settings, wanted
        self._indexes, self._marks = indexes, wanted.marks
        self._described = repr((wanted.of_statuses and sorted(wanted.of_statuses), [
            sorted(wanted.queues), wanted.method, wanted.user, wanted.job, wanted.since,
            wanted.until, wanted.words,
        ]))  # fmt: skip

    def page(self, cursor_before: str | None = None, limit: int = 50) -> Page:
        """The first page, or the page after that cursor, with ``limit`` jobs at most.

        Only jobs that come, go or change between two pages may be missing, and no job comes twice
        on a page.  Raises ArgumentError for a cursor that is damaged or of other filters,
        BrokerUnavailable.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LONGEST_PAGE:
            raise ArgumentError(
                f"'limit' must be a whole number, 1 to {LONGEST_PAGE:,}; not {shortened(limit)}."
            )
        begun = START
        if cursor_before is not None:
            begun = cursor.read(cursor_before, self._described)
        walk = self._walk(begun, limit + 1)
        found: dict[str, tuple[Position, Record]] = {}
        while len(found) <= limit and (some := [*islice(walk, limit + 1 - len(found))]):
            found |= self._fitting(some)
        places = [*found.values()][:limit]
        more = places[-1][0] if len(found) > limit else walk.cut_at
        return Page(
            records=[record for _, record in places],
            cursor=cursor.write(more, self._described) if more else None,
            looked=walk.looked, is_cut=len(found) <= limit and more is not None,
        )  # fmt: skip

    def _fitting(self, places: Sequence[Position]) -> dict[str, tuple[Position, Record]]:
        """The wanted jobs among these: Redis has looked only at a part of the filters."""
        records = self._ledger.read_heads([place.text_id for place in places])
        return {
            record.message.id: (place, record)
            for place, record in zip(places, records, strict=True)
            if record and self._wanted.fits(record)
        }

    def _walk(self, begun: Position, limit: int) -> Walk:
        """Through where the wanted jobs may be, from that place on."""
        wanted = self._wanted
        if wanted.job is not None:
            nothing = Nearest(self._ledger, (), begun)
            return Walk(self._ledger, limit, nothing, [self._of_id(begun)])
        plan = Plan()
        if self._settings.keeps_search_index and wanted.is_narrow:
            plan = self._indexes.plan(wanted)
        nearest = Nearest(self._ledger, [*self._families(plan)], begun)
        running = [self._running(begun)] if STARTED in wanted.of_statuses else []
        return Walk(self._ledger, limit, nearest, running)

    def _families(self, plan: Plan) -> Iterator[Family]:
        statuses, now = self._wanted.of_statuses, time.time()
        others = [*statuses & {FINISHED, CANCELLED}]
        for state, status in (("open", QUEUED), *zip(ENDED, ENDED, strict=True)):
            if status in statuses and (choice := plan.choices.get(state)):
                yield self._chosen(choice, state, status)
        if QUEUED in statuses:
            yield from self._queued(plan.unchosen("open", self._wanted.sites))
        if FAILED in statuses:
            ttl = self._settings.job_failure_ttl
            sites = plan.unchosen(FAILED, self._wanted.sites)
            yield self._family("ended", sites, statuses=[FAILED], shift=ttl, bounds=(now, inf))
        if others:
            # The index is sorted by when a record expires: failed jobs, kept longer, come before.
            ttl, sites = self._settings.results_ttl, plan.unchosen(others[0], self._wanted.sites)
            bounds = now, now + ttl
            yield self._family("ended", sites, statuses=others, shift=ttl, bounds=bounds)

    def _chosen(self, choice: Choice, state: str, status: str) -> Family:
        """The jobs of a status, from the indexes that were chosen."""
        groups = [marks for of, marks in self._marks.items() if of != choice.of]
        bounds = float(self._indexes.since(state, time.time())), inf
        kind = Kind(self._wanted, [status], groups, bounds=bounds, forgets=True)
        return Family(kind, self._ledger._key("by", ""), choice.tokens, f":{state}")

    def _queued(self, sites: Sequence[str]) -> Iterator[Family]:
        """The jobs that wait, from the site's index or from the queues', whichever is shorter."""
        queues = self._wanted.queues
        if queues and len(sites) == len(self._wanted.sites) == 1 and self._are_shorter(sites[0]):
            here = mark("site", sites[0])
            # at-front jobs have a range of their own there
            for shift, bounds in ((-AHEAD, (-inf, 0.0)), (0.0, (0.0, inf))):
                yield self._family(
                    "waiting", [*queues], statuses=[QUEUED], shift=shift, bounds=bounds, also=[here]
                )
        else:
            yield self._family("open", sites, statuses=[QUEUED])

    def _are_shorter(self, site: str) -> bool:
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self._ledger._key("open", site))
            for queue in self._wanted.queues:
                pipe.zcard(self._ledger._key("waiting", queue))
            size, *sizes = pipe.execute()
        # Jobs that wait for their time are in the site's index alone.
        return bool(sum(sizes) < size) and not any(self._ledger.count_delayed(self._wanted.queues))

    def _family(
        self, index: str, names: Sequence[str], also: Sequence[str] = (), **options: Any
    ) -> Family:
        marks = [*([part] for part in also), *self._marks.values()]
        kind = Kind(
            self._wanted, marks=marks, forgets=index == "ended", is_of_site=index != "waiting",
            **options,
        )  # fmt: skip
        return Family(kind, self._ledger._key(index, ""), names)

    def _running(self, begun: Position) -> Few:
        """The jobs that run: at most as many as there are processes."""
        with self._ledger.reaching():
            ids = self._ledger.redis.zrange(self._ledger._key("running"), 0, -1)
        records = self._ledger.read_heads(ids)
        running = [record for record in records if record and record.status == STARTED]
        return Few(self._wanted, running, begun)

    def _of_id(self, begun: Position) -> Few:
        """The newest job of that id on each site, or the message of that id."""
        wanted, job = self._wanted, str(self._wanted.job)
        with self._ledger.reaching():
            keys = [self._ledger._key("job", site, job) for site in wanted.sites]
            newest = self._ledger.redis.mget(keys) if keys else []
        records = self._ledger.read_heads([*{job, *filter(None, newest)}])
        found = [rec for rec in records if rec and job in (rec.message.id, rec.message.job_id)]
        return Few(wanted, found, begun)
