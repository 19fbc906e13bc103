"""The history as it is asked for: numbers and times by queue, site or method.

``runtime.current().history.series(3600, "queue")`` gives the last hour by minute.  A place without
data is None, and never zeros.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any

from frappe_jobs.history.chunk import OTHERS, Chunk, read_minute
from frappe_jobs.history.counts import Codes, Counts
from frappe_jobs.history.folding import chunk_key
from frappe_jobs.history.keys import HOURS, MINUTE, MINUTES, ONE_MINUTE, TOTALS, Resolution
from frappe_jobs.ledger import Ledger

# All at one moment: a minute that is folded meanwhile is neither missed nor counted twice.
READ = """
local prefix, kind, since, totals = unpack(ARGV)
local reply = {redis.call('MGET', unpack(KEYS)), {}, {}, {}}
for _, minute in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'history:apart', since, '+inf')) do
  local text = redis.call('GET', prefix .. 'history:apart:' .. kind .. ':' .. minute)
  table.insert(reply[2], {minute, text or ''})
end
for _, minute in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'history:unfolded', since, '+inf')) do
  local jobs = redis.call('HGETALL', prefix .. 'history:jobs:' .. minute)
  local apart = redis.call('HGETALL', prefix .. 'history:' .. kind .. ':' .. minute)
  table.insert(reply[3], {minute, jobs, apart})
end
if totals ~= '' then reply[4] = redis.call('HGETALL', totals) end
return reply
"""

#: What it can be asked by.
BY = ("queue", "site", "method")


@dataclass(frozen=True)
class Series:
    """A row for each name, the busiest first, with a place for each step of time."""

    #: Seconds from one place to the next.
    step: int
    #: When each place begins, by Redis's clock in seconds since 1970, oldest first.  The last one
    #: is still going on.
    starts: Sequence[float]
    #: None: no data; nothing was recorded then.  Counts of zeros: nothing happened.
    #: The name "" is that of all that are not among the busiest, together.
    rows: Mapping[str, Sequence[Counts | None]]
    #: For each place, whether anything was recorded; also where there is no row.
    known: Sequence[bool]

    def total(self, name: str) -> Counts | None:
        """Of the whole time; None where there is no data."""
        places = self.rows.get(name)
        if places is None:
            return Counts({}) if any(self.known) else None
        found = [place for place in places if place is not None]
        return Counts.sum(found) if found else None

    def row(self, name: str) -> Sequence[Counts | None]:
        """That name's places; zeros where something was recorded and nothing of it happened."""
        empty = [Counts({}) if known else None for known in self.known]
        return self.rows.get(name, empty)


class Places:
    """What was counted by name and slot, as it is put together; ``slots`` are their beginnings."""

    def __init__(self, slots: range) -> None:
        self._slots = slots
        self.known: set[int] = set()
        self.rows: dict[str, dict[int, list[Counts]]] = {}

    def add(self, at: int, counted: Mapping[str, Codes]) -> None:
        """Of the slot in which that second lies; nothing where it is none of them."""
        at = at // self._slots.step * self._slots.step
        if at not in self._slots:  # too old, or a clock was set back
            return
        self.known.add(at)
        for name, codes in counted.items():
            if codes:
                self.rows.setdefault(name, {}).setdefault(at, []).append(Counts(codes))

    def add_chunk(self, text: str | None, begin: int, resolution: Resolution) -> None:
        chunk = Chunk.unpacked(text, resolution.slots)
        for slot in chunk.known:
            codes = {name: chunk.codes(name, slot) for name in chunk.rows}
            self.add(begin + slot * resolution.step, codes)


class History:
    """What a ledger holds of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def series(
        self, span: float, by: str, *, names: Iterable[str] | None = None, step: int | None = None
    ) -> Series:
        """The last so many seconds, in one round trip.

        ``by`` is "queue", "site" or "method"; ``names``: only these.  Up to 24 hours it is by
        minute, beyond by hour, up to 30 days; ``step`` puts so many seconds into one place (a
        multiple of a minute, or of an hour).  Places begin at multiples of the step in UTC.
        Raises BrokerUnavailable.
        """
        resolution = MINUTES if span <= MINUTES.kept else HOURS
        step = max(resolution.step, (step or 0) // resolution.step * resolution.step)
        now = self._now()
        steps = max(1, ceil(min(span, resolution.kept) / step))
        first = now // step * step - (steps - 1) * step
        slots = range(first, now + 1, resolution.step)
        places = self._read(by, slots, resolution)
        rows, known = places.rows, places.known
        wanted = rows.keys() if names is None else set(names) & rows.keys()
        starts = [start for start, _ in groupby(slots, lambda slot: slot // step * step)]
        seen = {slot // step * step for slot in known}
        made = {name: _places(rows[name], starts, step, seen) for name in wanted}
        busiest = sorted(made, key=lambda name: (name != OTHERS, _activity(made[name])))[::-1]
        return Series(
            step, starts, {name: made[name] for name in busiest}, [one in seen for one in starts]
        )

    def totals(self) -> dict[str, Counts]:
        """What was counted by queue since Redis was empty: it only grows, whoever restarts.

        The name "" is that of queues that are no longer configured.  Raises BrokerUnavailable.
        """
        totals = self._ledger._key(TOTALS)
        _, _, unfolded, fields = self._ask("queue", [totals], "-inf", totals)
        found = [_read_totals(fields), *(codes for _, codes in _minutes("queue", unfolded))]
        by_queue: defaultdict[str, list[Counts]] = defaultdict(list)
        for counted in found:
            for name, codes in counted.items():
                by_queue[name].append(Counts(codes))
        return {name: Counts.sum(many) for name, many in by_queue.items()}

    def _now(self) -> int:
        with self._ledger.reaching():
            return int(self._ledger.redis.time()[0])

    def _read(self, by: str, slots: range, resolution: Resolution) -> Places:
        chunks = range(slots[0] // resolution.chunk, slots[-1] // resolution.chunk + 1)
        keys = [chunk_key(self._ledger, resolution, by, one) for one in chunks]
        texts, apart, unfolded, _ = self._ask(by, keys, str(slots[0] // MINUTE), "")
        places = Places(slots)
        for number, text in zip(chunks, texts, strict=True):
            places.add_chunk(text, number * resolution.chunk, resolution)
        for minute, text in apart:
            places.add_chunk(text, int(minute) * MINUTE, ONE_MINUTE)
        for minute, codes in _minutes(by, unfolded):
            places.add(minute * MINUTE, codes)
        return places

    def _ask(self, kind: str, keys: Sequence[str], since: str, totals: str) -> Any:
        with self._ledger.reaching():
            arguments = [self._ledger._prefix, kind, since, totals]
            return self._ledger._script(READ)(keys=keys, args=arguments)


def _places(
    row: Mapping[int, Sequence[Counts]], starts: Sequence[int], step: int, known: set[int]
) -> list[Counts | None]:
    counted: defaultdict[int, list[Counts]] = defaultdict(list)
    for at, many in row.items():
        counted[at // step * step] += many
    return [Counts.sum(counted[one]) if one in known else None for one in starts]


def _activity(places: Sequence[Counts | None]) -> int:
    return sum(place.activity for place in places if place is not None)


def _minutes(kind: str, unfolded: Any) -> Iterator[tuple[int, dict[str, dict[str, int]]]]:
    for minute, jobs, apart in unfolded:
        yield int(minute), read_minute(kind, _pairs(jobs), _pairs(apart))


def _read_totals(fields: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for field, many in _pairs(fields):
        code, _, name = field.partition(":")
        found.setdefault(name, {})[code] = int(many)
    return found


def _pairs(fields: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(fields[::2], fields[1::2], strict=True)
