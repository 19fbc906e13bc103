"""What Redis knows of the schedule: RedBeat's entries, which scheduler leads, what is due.

The entries are RedBeat's: a hash with a ``definition`` and a ``meta`` for each, and a sorted set of
their due times.  They are made from the sites' records, so they may be lost, and an entry that
cannot be read is made anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import redis

from frappe_jobs.cron import UTC
from frappe_jobs.errors import BadEntry, FrappeJobsError, shortened
from frappe_jobs.ledger.connection import Connected, reachable
from frappe_jobs.message import to_json
from frappe_jobs.scheduler.entry import UNREADABLE, Due, Entry, Put, Stored
from frappe_jobs.scheduler.timetable_scripts import LET_GO, LOOK, MOVE, REPLACE, TAKE_OUT, TICKET

__all__ = ["Due", "Entry", "Look", "Put", "Sighting", "Stored", "TakenOut", "Timetable"]

#: Entries read or written in one call.
CHUNK = 500

#: Seconds since 1970: a time in the calendar's last year.
LATEST = 253_370_764_800.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class TakenOut:
    """An entry that was removed from the schedule: its key, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class Look:
    """What a scheduler sees: whether it leads, whether it has just begun to, and what is due."""

    leads: bool
    is_new: bool = False
    due: Sequence[Due] = ()
    next_at: float | None = None
    #: The time by Redis's clock, and of the last look of any scheduler.
    now: float = 0.0
    last: float | None = None
    taken_out: Sequence[TakenOut] = ()
    #: Keys of ours that held something else, and were deleted.
    wrong: Sequence[str] = ()


@dataclass(frozen=True)
class Sighting:
    """A leader's last look: whose it was, when by Redis's clock, and when by its own."""

    token: str
    at: float
    clock: float


class Timetable(Connected):
    """The entries of a bench."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url)
        #: RedBeat, with our settings for it, uses the same keys.
        self.key_prefix = f"{prefix}redbeat:"
        self.schedule_key = f"{self.key_prefix}:schedule"
        self.lock_key = f"{self.key_prefix}:lock"
        self.seen_key = f"{self.key_prefix}:seen"
        self.sites_key = f"{self.key_prefix}:sites"

    @reachable
    def look(
        self, token: str, lock: float, now: float | None = None, *, clock: float | None = None
    ) -> Look:
        """Lead for ``lock`` more seconds, or begin to; and see what is due, in one round trip.

        At most 500 entries, the longest due first; none while another scheduler leads.  ``now`` is
        the time by Redis's clock unless given; ``clock`` is the caller's own, to be noted.  Entries
        that cannot be read, or are no site's, are taken out of the schedule.
        """
        clock = now if clock is None else clock
        arguments = [
            token, int(lock * 1000), repr(clock or 0.0), CHUNK, self.key_prefix,
            "" if now is None else repr(now),
        ]  # fmt: skip
        keys = [self.lock_key, self.schedule_key, self.seen_key]
        leads, *rest = self._script(LOOK)(keys=keys, args=arguments)
        if not leads:
            return Look(leads=False)
        is_new, at, last, coming, wrong, lost, *found = rest
        due, bad = self._read_due(found, float(at))
        taken_out = [TakenOut(key, "it is no site's, or incomplete") for key in lost]
        if bad:
            found = [text for key, definition, _ in bad for text in (key, definition)]
            self._script(TAKE_OUT)(keys=[self.schedule_key], args=found)
            taken_out += [TakenOut(key, why) for key, _, why in bad]
        next_at = float(coming) if coming else None
        return Look(True, bool(is_new), due, next_at, float(at), _seconds(last), taken_out, wrong)

    def _read_due(
        self, found: Sequence[str], now: float
    ) -> tuple[list[Due], list[tuple[str, str, str]]]:
        """The entries that are due; and key, definition and fault of those that cannot be used."""
        due, bad = [], []
        after = datetime.fromtimestamp(now, UTC)
        rows = (found[start::5] for start in range(5))
        for key, text, at, queued, epoch in zip(*rows, strict=True):
            stored = self._stored(key, (text, at, queued, None, epoch), None)
            if stored.entry is None or stored.due is None:
                bad.append((key, text, stored.why or f"its due time is {shortened(at)}"))
                continue
            try:
                next_at = stored.entry.next_run(after).timestamp()
            except (FrappeJobsError, ArithmeticError, *UNREADABLE) as error:
                bad.append((key, text, str(error)))
                continue
            due.append(Due(stored.entry, stored.due, next_at, stored.queued, stored.epoch))
        return due, bad

    @reachable
    def move(self, moves: Iterable[tuple[Due, float, float]]) -> None:
        """Set each entry's next due time, and when to look at it: then, or later if it waits."""
        arguments: list[Any] = []
        for due, next_at, look_at in moves:
            is_over = next_at != due.at and due.at > (due.queued or 0.0)
            arguments += (
                self._key(due.entry.id), repr(due.at), repr(next_at), repr(look_at),
                to_json({"last_run_at": _redbeat_time(due.at)}), repr(due.at) if is_over else "",
            )  # fmt: skip
        if arguments:
            self._script(MOVE)(keys=[self.schedule_key], args=arguments)

    @reachable
    def let_go(self, token: str) -> None:
        """Stop leading, so that another scheduler may lead at once."""
        self._script(LET_GO)(keys=[self.lock_key], args=[token])

    @reachable
    def leader(self) -> str | None:
        """The token of the scheduler that leads; None if none does."""
        found = of_its_kind(lambda: self.redis.get(self.lock_key), None)
        return None if found is None else str(found)

    @reachable
    def last_look(self) -> Sighting | None:
        """Which scheduler led last, and when; None if there was none, or it cannot be read."""
        found: dict[str, str] = of_its_kind(lambda: self.redis.hgetall(self.seen_key), {})
        at, clock = _seconds(found.get("at")), _seconds(found.get("clock"))
        if at is None or clock is None:
            return None
        return Sighting(found.get("token", "?"), at, clock)

    @reachable
    def first_due(self) -> float | None:
        """When the scheduled job that is due first is, or was, due; None if there is none."""
        found: list[Any] = of_its_kind(
            lambda: self.redis.zrange(self.schedule_key, 0, 0, withscores=True), []
        )
        return float(found[0][1]) if found else None

    @reachable
    def now(self) -> float:
        """The time by Redis's clock, in seconds since 1970; jobs are due by it."""
        seconds, microseconds = self.redis.time()
        return float(seconds + microseconds / 1e6)

    @reachable
    def ticket(self, site: str) -> int:
        """A number to take before the site's records are read, and to give to ``put`` after."""
        return int(self._script(TICKET)(keys=[self._ticket_key(site)]))

    def replace(
        self, site: str, ticket: int, remove: Sequence[str], put: Mapping[Entry, float]
    ) -> bool:
        """As ``put``, with entries and their due times."""
        return self.put(site, ticket, remove, [Put(entry, due) for entry, due in put.items()])

    @reachable
    def put(self, site: str, ticket: int, remove: Sequence[str], puts: Sequence[Put]) -> bool:
        """Remove these entries of the site and write those, in steps of 500 entries.

        False if another process has a later ticket, as it has read newer records.
        """
        keys = [
            self.schedule_key, self.site_key(site), self._ticket_key(site),
            self._key(f"{site}:"), self.sites_key,
        ]  # fmt: skip
        for start in range(0, max(len(puts), len(remove)), CHUNK):
            names = remove[start : start + CHUNK]
            arguments = [str(ticket), site, len(names), *names]
            for put in puts[start : start + CHUNK]:
                arguments += (
                    put.entry.name, put.entry.to_json(), _text(put.was), repr(put.due),
                    _text(put.queued), str(put.epoch), _text(put.last),
                )  # fmt: skip
            if not self._script(REPLACE)(keys=keys, args=arguments):
                return False
        return True

    @reachable
    def sites(self) -> set[str]:
        """The sites that have entries."""
        return {str(site) for site in self.members(self.sites_key)}

    def of_site(self, site: str) -> dict[str, tuple[Entry, float] | None]:
        """The site's entries and when each is due, by name; None if an entry cannot be read."""
        return {
            name: None if stored.entry is None or stored.due is None else (stored.entry, stored.due)
            for name, stored in self.stored(site).items()
        }

    @reachable
    def stored(self, site: str) -> dict[str, Stored]:
        """All that Redis has for the site's scheduled jobs, by name."""
        names = sorted(self.members(self.site_key(site)))
        keys = [self._key(f"{site}:{name}") for name in names]
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, "definition", "due", "queued", "last", "epoch")
                pipe.zscore(self.schedule_key, key)
            found = pipe.execute(raise_on_error=False)
        return dict(zip(names, map(self._stored, keys, found[::2], found[1::2]), strict=True))

    def _stored(self, key: str, values: Any, score: Any) -> Stored:
        if isinstance(values, Exception):  # the key is of another type
            return Stored(None, str(values))
        text, due, queued, last, epoch = values
        entry, why = None, ""
        try:
            found = Entry.from_json(text or "")
            if self._key(found.id) == key:
                entry = found
            else:
                why = f"it is the entry of {shortened(found.id)}"
        except BadEntry as error:
            why = str(error)
        return Stored(
            entry, why, _seconds(due), score if isinstance(score, float) else None,
            _seconds(queued), _seconds(last), int(epoch) if (epoch or "").isdecimal() else 0,
        )  # fmt: skip

    def members(self, key: str) -> set[str]:
        """The members of the set under that key; none if it is no set."""
        found: set[str] = of_its_kind(lambda: self.redis.smembers(key), set())
        return found

    def _key(self, entry_id: str) -> str:
        return self.key_prefix + entry_id

    def site_key(self, site: str) -> str:
        """The key of the set of the names of the site's entries."""
        return f"{self.key_prefix}:site:{site}"

    def _ticket_key(self, site: str) -> str:
        return f"{self.key_prefix}:ticket:{site}"


def of_its_kind(read: Callable[[], Answer], otherwise: Answer) -> Answer:
    """What ``read()`` gives, or ``otherwise`` if the key is of another type."""
    try:
        return read()
    except redis.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return otherwise


def _seconds(text: str | None) -> float | None:
    """A time in seconds since 1970; None for anything else."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) and 0 <= found < LATEST else None


def _text(seconds: float | None) -> str:
    return "" if seconds is None else repr(seconds)


def _redbeat_time(seconds: float) -> dict[str, Any]:
    at = datetime.fromtimestamp(seconds, UTC)
    parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return {"__type__": "datetime", "timezone": "UTC"} | {part: getattr(at, part) for part in parts}
