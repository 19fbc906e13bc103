"""Which indexes a search reads: the shortest that has all that is wanted, if they are whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.indexing import token
from frappe_jobs.ledger.record import ENDED, FAILED, QUEUED
from frappe_jobs.ledger.wanted import Wanted
from frappe_jobs.message import to_json

#: What the indexes of jobs that wait or run are called.
OPEN_STATE = "open"

#: Sites that one step looks at, and indexes that may be counted to choose between them: with more,
#: the sites' own are read.
STEP, MOST = 250, 5_000
#: Of more sites than one step looks at those that were whole count as whole for so many times the
#: seconds that the look took, and no longer than so many: pages that are open look again and again.
TIMES, LONGEST = 100, 5.0

# what a site has against what its indexes have, which must be as many
# gives the places of sites whose index of open jobs is not whole
OPEN_WHOLE = """
local prefix, sites, tokens = ARGV[1], cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local broken = {}
for n, site in ipairs(sites) do
  local index = prefix .. 'by:' .. tokens[n] .. ':open'
  if redis.call('ZCARD', prefix .. 'open:' .. site) ~= redis.call('ZCARD', index) then
    broken[#broken + 1] = n - 1
  end
end
return broken
"""

# the same of those of ended jobs
# lows: from which score on they are kept, in all and by status
ENDED_WHOLE = """
local prefix, sites, tokens = ARGV[1], cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local lows = cjson.decode(ARGV[4])
local broken = {}
for n, site in ipairs(sites) do
  local by, many = prefix .. 'by:' .. tokens[n] .. ':', 0
  for status, low in pairs(lows) do
    if status ~= '' then many = many + redis.call('ZCOUNT', by .. status, low, '+inf') end
  end
  if redis.call('ZCOUNT', prefix .. 'ended:' .. site, lows[''], '+inf') ~= many then
    broken[#broken + 1] = n - 1
  end
end
return broken
"""

SCRIPTS = {OPEN_STATE: OPEN_WHOLE, "ended": ENDED_WHOLE}

# gives how many are in these indexes
SUM = """
local sum = 0
for _, key in ipairs(KEYS) do sum = sum + redis.call('ZCARD', key) end
return sum
"""


@dataclass(frozen=True)
class Choice:
    """Indexes, by their tokens, that have between them all that fits one filter."""

    tokens: Sequence[str]
    #: The filter: ``queues``, ``method``, ``user``, ``words``, or ``site`` that all fit.
    of: str


@dataclass(frozen=True)
class Plan:
    """What to read, by ``open`` and the statuses of ends."""

    choices: dict[str, Choice] = field(default_factory=dict)
    #: The sites whose own indexes are read beside the choice, as the others are not whole.
    beside: dict[str, Sequence[str]] = field(default_factory=dict)

    def unchosen(self, state: str, sites: Sequence[str]) -> Sequence[str]:
        """Those of these sites whose own index of all of that state is read."""
        return self.beside.get(state, ()) if state in self.choices else sites


class Indexes:
    """The search indexes of a bench."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings
        #: By base the sites that were whole a moment ago, and until when that counts.
        self._were_whole: dict[str, tuple[float, frozenset[str]]] = {}

    def plan(self, wanted: Wanted) -> Plan:
        """What to read for that search."""
        plan, broken = Plan(), dict[str, set[str]]()
        for state in _states(wanted):
            base = OPEN_STATE if state == OPEN_STATE else "ended"
            if base not in broken:
                broken[base] = self._broken(wanted.sites, base)
            missing = broken[base]
            whole = [site for site in wanted.sites if site not in missing]
            if choice := self._shortest(state, _choices(whole, state, wanted)):
                plan.choices[state] = choice
                plan.beside[state] = [site for site in wanted.sites if site in missing]
        return plan

    def is_whole(self, site: str) -> bool:
        """Whether all jobs of the site are in the indexes, and no others."""
        return not any(self._broken([site], base) for base in SCRIPTS)

    def whole(self, site: str, state: str) -> str:
        """The index that has each job of that state."""
        return self._ledger.index_key(token(site, "site"), state)

    def since(self, state: str, now: float) -> str:
        """The lowest score of those that are still kept."""
        if state == OPEN_STATE:
            return "-inf"
        settings = self._settings
        ttl = settings.job_failure_ttl if state == FAILED else settings.results_ttl
        return repr(now - ttl)

    def _broken(self, sites: Sequence[str], base: str) -> set[str]:
        """The sites whose indexes of open jobs, or of ended ones, are not whole."""
        begun, asked = time.monotonic(), sites
        until, known = self._were_whole.get(base, (0.0, frozenset()))
        if len(sites) > STEP and begun < until:
            asked = [site for site in sites if site not in known]
        steps = (asked[start : start + STEP] for start in range(0, len(asked), STEP))
        found = {site for some in steps for site in self._broken_of(some, base)}
        if len(asked) > STEP:
            lasts = min(LONGEST, TIMES * (time.monotonic() - begun))
            self._were_whole[base] = begun + lasts, frozenset(asked) - found
        return found

    def _broken_of(self, sites: Sequence[str], base: str) -> Iterator[str]:
        now = time.time()
        lows = {"": repr(now)} | {status: self.since(status, now) for status in ENDED}
        tokens = [token(site, "site") for site in sites]
        arguments = [self._ledger._prefix, *map(to_json, ([*sites], tokens, lows))]
        with self._ledger.reaching():
            places = self._ledger._script(SCRIPTS[base])(args=arguments)
        return (sites[int(place)] for place in places)

    def _shortest(self, state: str, choices: Sequence[Choice]) -> Choice | None:
        if len(choices) < 2:
            return next(iter(choices), None)
        return min(choices, key=lambda one: self._size(state, one))

    def _size(self, state: str, choice: Choice) -> int:
        size = 0
        for start in range(0, len(choice.tokens), STEP):
            some = choice.tokens[start : start + STEP]
            keys = [self._ledger.index_key(one, state) for one in some]
            with self._ledger.reaching():
                size += self._ledger._script(SUM)(keys=keys)
        return size


def _states(wanted: Wanted) -> Iterator[str]:
    """The states that a wanted job may have, but for running ones, which are known without."""
    if QUEUED in wanted.of_statuses:
        yield OPEN_STATE
    yield from (status for status in ENDED if status in wanted.of_statuses)


def _choices(sites: Sequence[str], state: str, wanted: Wanted) -> list[Choice]:
    """By which filters the wanted jobs of that state can be found; without any, by their site."""
    named: list[tuple[str, str, Sequence[str]]] = [("queues", "queue", [*wanted.queues])]
    named += [
        (name, name, [value])
        for name in ("method", "user")
        if (value := getattr(wanted, name)) is not None
    ]
    if state == FAILED:
        named += [("words", "word", [word]) for word in wanted.words]
    found = [
        Choice([token(site, kind, value) for site in sites for value in values], of)
        for of, kind, values in named
        if 0 < len(values) * len(sites) <= MOST
    ]
    if not found and sites and state != OPEN_STATE:
        found.append(Choice([token(site, "site") for site in sites], "site"))
    return found
