"""What Redis knows of the schedule: RedBeat's entries, who leads, what is due.

The entries are RedBeat's: a hash with a ``definition`` and a ``meta`` for each, and a sorted set of
their due times.  They are derived from the sites' records, so all of it may be lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

from frappe_jobs.frequency import Schedule
from frappe_jobs.ledger.connection import Connected, reachable
from frappe_jobs.message import TASK, to_json

#: Entries that one call reads, or writes.
CHUNK = 500


@dataclass(frozen=True)
class Entry:
    """A scheduled job of a site, as the scheduler knows it."""

    site: str
    #: Of its Scheduled Job Type.
    name: str
    method: str
    queue: str
    schedule: Schedule
    zone: str

    @property
    def id(self) -> str:
        """Its name in RedBeat."""
        return f"{self.site}:{self.name}"

    def next_run(self, after: datetime) -> datetime:
        """The first time strictly after that one at which it is due, in its zone."""
        return self.schedule.next_run(after, ZoneInfo(self.zone))

    def to_json(self) -> str:
        """RedBeat's definition."""
        kwargs = {"site": self.site, "name": self.name, "method": self.method, "queue": self.queue}
        schedule = {"__type__": "frappe_jobs", "zone": self.zone} | asdict(self.schedule)
        return to_json(
            {
                "name": self.id, "task": TASK, "args": [], "kwargs": kwargs, "options": {},
                "schedule": schedule, "enabled": True,
            }
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """Read what to_json wrote; raises ValueError or LookupError for anything else."""
        definition = json.loads(text)
        parts = dict(definition["schedule"])
        if parts.pop("__type__") != "frappe_jobs":
            raise ValueError("no entry of ours")
        zone = parts.pop("zone")
        return cls(**definition["kwargs"], schedule=Schedule(**parts), zone=zone)


@dataclass(frozen=True)
class Due:
    """An entry whose time has come: since when, in seconds since 1970."""

    entry: Entry
    at: float


@dataclass(frozen=True)
class Look:
    """What a scheduler sees: whether it leads, since this very look, what is due and what next."""

    leads: bool
    is_new: bool = False
    due: Sequence[Due] = ()
    next_at: float | None = None


@dataclass(frozen=True)
class Sighting:
    """The last look of a scheduler that leads: whose, when by Redis's clock, and by its own."""

    token: str
    at: float
    clock: float


# KEYS lock, schedule, the last look · ARGV token, milliseconds of the lock, now, how many at most
# gives {leads, is new, when the next one is due, then key, definition and due time of each}
LOOK = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local time = redis.call('TIME')
local at = string.format('%s.%06d', time[1], time[2])
redis.call('HSET', KEYS[3], 'token', ARGV[1], 'at', at, 'clock', ARGV[3])
local coming = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local found = {1, holder and 0 or 1, coming[2] or ''}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], 0, ARGV[3], 'LIMIT', 0, ARGV[4])) do
  local definition, due = unpack(redis.call('HMGET', key, 'definition', 'due'))
  if definition and due then
    for _, value in ipairs({key, definition, due}) do found[#found + 1] = value end
  else
    redis.call('ZREM', KEYS[2], key)
  end
end
return found
"""  # noqa: E501

# KEYS schedule · ARGV for each entry its key, the due time that it had, the next one, when to look
#      at it again, RedBeat's meta; one that was changed meanwhile stays as it is
MOVE = """
for n = 1, #ARGV, 5 do
  local key, was, due, score, meta = unpack(ARGV, n, n + 4)
  if redis.call('HGET', key, 'due') == was then
    redis.call('HSET', key, 'due', due, 'meta', meta)
    redis.call('ZADD', KEYS[1], 'XX', score, key)
  end
end
"""

# KEYS schedule, the site's names, ticket, the site's prefix, the sites · ARGV ticket, the site,
#      names to remove as JSON, then for each entry to put its name, definition, due time
# gives 0 if the ticket is old
REPLACE = """
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
for _, name in ipairs(cjson.decode(ARGV[3])) do
  redis.call('ZREM', KEYS[1], KEYS[4] .. name)
  redis.call('DEL', KEYS[4] .. name)
  redis.call('SREM', KEYS[2], name)
end
for n = 4, #ARGV, 3 do
  local name, definition, due = unpack(ARGV, n, n + 2)
  redis.call('HSET', KEYS[4] .. name, 'definition', definition, 'due', due)
  redis.call('ZADD', KEYS[1], due, KEYS[4] .. name)
  redis.call('SADD', KEYS[2], name)
end
redis.call(redis.call('EXISTS', KEYS[2]) == 1 and 'SADD' or 'SREM', KEYS[5], ARGV[2])
return 1
"""

# KEYS lock · ARGV token
LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


class Timetable(Connected):
    """The entries of one bench."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url)
        #: RedBeat's settings that lead to the same keys.
        self.key_prefix = f"{prefix}redbeat:"
        self.schedule_key = f"{self.key_prefix}:schedule"
        self.lock_key = f"{self.key_prefix}:lock"
        self._seen_key = f"{self.key_prefix}:seen"
        self._sites_key = f"{self.key_prefix}:sites"
        self._look: Any = self.redis.register_script(LOOK)
        self._move: Any = self.redis.register_script(MOVE)
        self._replace: Any = self.redis.register_script(REPLACE)
        self._let_go: Any = self.redis.register_script(LET_GO)

    @reachable
    def look(self, token: str, lock: float, now: float) -> Look:
        """Lead for so many seconds more, or begin to; and see what is due, in one round trip.

        At most 500 entries, the longest due first; none while another one leads.
        """
        arguments = [token, int(lock * 1000), repr(now), CHUNK]
        keys = [self.lock_key, self.schedule_key, self._seen_key]
        leads, *rest = self._look(keys=keys, args=arguments)
        if not leads:
            return Look(leads=False)
        is_new, coming, *found = rest
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        due = [Due(Entry.from_json(text), float(at)) for _, text, at in rows]
        return Look(True, bool(is_new), due, float(coming) if coming else None)

    @reachable
    def move(self, moves: Iterable[tuple[Due, float, float]]) -> None:
        """Set each one's next due time, and when to look at it: then, or as long as it may wait."""
        arguments: list[Any] = []
        for due, next_at, look_at in moves:
            arguments += (
                self._key(due.entry.id), repr(due.at), repr(next_at), repr(look_at),
                to_json({"last_run_at": _redbeat_time(due.at)}),
            )  # fmt: skip
        if arguments:
            self._move(keys=[self.schedule_key], args=arguments)

    @reachable
    def let_go(self, token: str) -> None:
        """Lead no longer, so that another one may at once."""
        self._let_go(keys=[self.lock_key], args=[token])

    @reachable
    def leader(self) -> str | None:
        """The token of who leads; None if nobody does."""
        found = self.redis.get(self.lock_key)
        return None if found is None else str(found)

    @reachable
    def last_look(self) -> Sighting | None:
        """Which scheduler led last, and when; None if none ever did."""
        found = self.redis.hgetall(self._seen_key)
        if not found:
            return None
        return Sighting(found["token"], float(found["at"]), float(found["clock"]))

    @reachable
    def ticket(self, site: str) -> int:
        """To be taken before the site's records are read, and handed in with what follows."""
        return int(self.redis.incr(self._ticket_key(site)))

    @reachable
    def replace(
        self, site: str, ticket: int, remove: Sequence[str], put: Mapping[Entry, float]
    ) -> bool:
        """Take these entries of the site away, and add or replace those, each with its due time.

        False where somebody has taken a later ticket: he knows better what the records say.  Each
        500 entries are one step.
        """
        keys = [
            self.schedule_key, self._site_key(site), self._ticket_key(site), self._key(f"{site}:"),
            self._sites_key,
        ]  # fmt: skip
        todo = list(put.items())
        for start in range(0, max(len(todo), len(remove)), CHUNK):
            arguments = [str(ticket), site, to_json(remove[start : start + CHUNK])]
            for entry, at in todo[start : start + CHUNK]:
                arguments += (entry.name, entry.to_json(), repr(at))
            if not self._replace(keys=keys, args=arguments):
                return False
        return True

    @reachable
    def sites(self) -> set[str]:
        """The sites that have entries."""
        return {str(site) for site in self.redis.smembers(self._sites_key)}

    @reachable
    def of_site(self, site: str) -> dict[str, tuple[Entry, float] | None]:
        """The site's entries and when each is due, by name; None for one that cannot be read."""
        names = sorted(self.redis.smembers(self._site_key(site)))
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(self._key(f"{site}:{name}"), "definition", "due")
                pipe.zscore(self.schedule_key, self._key(f"{site}:{name}"))
            found = pipe.execute()
        return dict(zip(names, map(_read, found[::2], found[1::2]), strict=True))

    def _key(self, entry_id: str) -> str:
        return self.key_prefix + entry_id

    def _site_key(self, site: str) -> str:
        return f"{self.key_prefix}:site:{site}"

    def _ticket_key(self, site: str) -> str:
        return f"{self.key_prefix}:ticket:{site}"


def _read(values: Sequence[str | None], score: float | None) -> tuple[Entry, float] | None:
    text, due = values
    if text is None or due is None or score is None:
        return None
    try:
        return Entry.from_json(text), float(due)
    except (ValueError, LookupError, TypeError):
        return None


def _redbeat_time(seconds: float) -> dict[str, Any]:
    at = datetime.fromtimestamp(seconds, timezone.utc)
    parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return {"__type__": "datetime", "timezone": "UTC"} | {one: getattr(at, one) for one in parts}
