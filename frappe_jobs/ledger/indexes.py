"""Which indexes a search reads: the shortest that has all that is wanted, if they are whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.indexing import token
from frappe_jobs.ledger.record import ENDED, FAILED
from frappe_jobs.ledger.wanted import Wanted

#: What the indexes of jobs that wait or run are called.
OPEN_STATE = "open"

# gives of each index how many are in it from that score on
COUNTS = """
local counts = {}
for n, key in ipairs(KEYS) do counts[n] = redis.call('ZCOUNT', key, ARGV[n], '+inf') end
return counts
"""


@dataclass(frozen=True)
class Choice:
    """Indexes, by their tokens, that have between them all that fits one filter."""

    tokens: Sequence[str]
    #: The filter: ``queues``, ``method``, ``user``, ``words``, or ``site`` that all fit.
    of: str


@dataclass(frozen=True)
class Plan:
    """What to read for a site, by ``open`` and the statuses of ends.

    Without a choice the site's own index of all of them is read.
    """

    choices: dict[str, Choice]


class Indexes:
    """The search indexes of a bench."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings

    def plans(self, wanted: Wanted) -> dict[str, Plan]:
        """For each site of the search, in one round trip."""
        now = time.time()
        counted = {site: [*self._counted(site, wanted, now)] for site in wanted.sites}
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            for keys in counted.values():
                self._ledger._script(COUNTS)(
                    keys=[key for key, _ in keys], args=[low for _, low in keys], client=pipe
                )
            replies = pipe.execute()
        return {
            site: self._plan(site, wanted, dict(zip((key for key, _ in keys), found, strict=True)))
            for (site, keys), found in zip(counted.items(), replies, strict=True)
        }

    def is_whole(self, site: str) -> bool:
        """Whether all jobs of the site are in the indexes, and no others."""
        keys = [*self._all(site, time.time())]
        with self._ledger.reaching():
            found = self._ledger._script(COUNTS)(
                keys=[key for key, _ in keys], args=[low for _, low in keys]
            )
        counts = dict(zip((key for key, _ in keys), found, strict=True))
        return self._whole(site, counts) == {OPEN_STATE, *ENDED}

    def parts(self, site: str, state: str) -> list[str]:
        """The indexes of which each job of that state is in exactly one."""
        if state == OPEN_STATE:
            queues = self._settings.queues
            return [self._key(token(site, "queue", queue), state) for queue in queues]
        return [self._key(token(site, "site"), state)]

    def since(self, state: str, now: float) -> str:
        """The lowest score of those that are still kept."""
        if state == OPEN_STATE:
            return "-inf"
        settings = self._settings
        ttl = settings.job_failure_ttl if state == FAILED else settings.results_ttl
        return repr(now - ttl)

    def _key(self, one: str, state: str) -> str:
        return self._ledger.index_key(one, state)

    def _all(self, site: str, now: float) -> Iterator[tuple[str, str]]:
        yield self._ledger._key("open", site), "-inf"
        yield self._ledger._key("ended", site), repr(now)
        for state in (OPEN_STATE, *ENDED):
            yield from ((key, self.since(state, now)) for key in self.parts(site, state))

    def _counted(self, site: str, wanted: Wanted, now: float) -> Iterator[tuple[str, str]]:
        yield from self._all(site, now)
        for state in (OPEN_STATE, *ENDED):
            for choice in _choices(site, state, wanted):
                for one in choice.tokens:
                    yield self._key(one, state), self.since(state, now)

    def _whole(self, site: str, counts: dict[str, int]) -> set[str]:
        """Those of the states whose indexes have as many as the site has."""
        whole: set[str] = set()
        for base, states in (("open", (OPEN_STATE,)), ("ended", ENDED)):
            parts = sum(counts[key] for state in states for key in self.parts(site, state))
            if parts == counts[self._ledger._key(base, site)]:
                whole |= {*states}
        return whole

    def _plan(self, site: str, wanted: Wanted, counts: dict[str, int]) -> Plan:
        chosen: dict[str, Choice] = {}
        for state in self._whole(site, counts):
            choices = _choices(site, state, wanted)
            if choices:
                chosen[state] = min(
                    choices,
                    key=lambda one: sum(counts[self._key(each, state)] for each in one.tokens),
                )
        return Plan(chosen)


def _choices(site: str, state: str, wanted: Wanted) -> list[Choice]:
    found = []
    if state != OPEN_STATE:
        found.append(Choice([token(site, "site")], "site"))
    if wanted.queues:
        found.append(Choice([token(site, "queue", one) for one in wanted.queues], "queues"))
    if wanted.method is not None:
        found.append(Choice([token(site, "method", wanted.method)], "method"))
    if wanted.user is not None:
        found.append(Choice([token(site, "user", wanted.user)], "user"))
    if state == FAILED:
        found += [Choice([token(site, "word", word)], "words") for word in wanted.words]
    return found
