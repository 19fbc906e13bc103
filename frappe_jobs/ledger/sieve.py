"""An index read downwards in short steps inside of Redis, which lets through what is wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.connection import as_bytes
from frappe_jobs.ledger.cursor import FIRST, Position
from frappe_jobs.ledger.wanted import Wanted

#: Entries that one step looks at: Redis does nothing else meanwhile.
STEP = 1_000
#: Where many indexes are looked at together, so many of each at first.
FIRST_STEP, FIRST_ASKED = 20, 2
#: Of a large page each is asked for such a part of it.
LARGE = 64
#: Bytes of envelopes after which a step ends as well.
STEP_BYTES = 2_000_000

# top, after: the place that was reached, a score and an id; step, bytes, limit: it ends
# after so many entries, bytes, or found ones; statuses: between spaces; gone: 1 where an id
# whose record is no longer kept goes from the index; words: so many of what follows, which must be
# in the error; behind them what must be in the envelope, each as a group of alternatives whose
# number is said before
# gives how many were looked at, 1 if nothing is left, the place that is reached; then the ids and
#       scores of those that fit
SIEVE = """
local key = KEYS[1]
local prefix, top, after, low, step, bytes, limit, statuses, gone, words =
  unpack(ARGV, 1, 10)
step, bytes, limit, words = tonumber(step), tonumber(bytes), tonumber(limit), tonumber(words)
local groups, n = {}, 11 + words
while n <= #ARGV do
  local size, group = tonumber(ARGV[n]), {}
  for m = n + 1, n + size do group[#group + 1] = ARGV[m] end
  groups[#groups + 1], n = group, n + size + 1
end
local function has_words(record)
  local reason, kind = unpack(redis.call('HMGET', record, 'reason', 'error'))
  local text = string.lower((kind or '') .. ' ' .. (reason or ''))
  for m = 11, 10 + words do
    if not string.find(text, ARGV[m], 1, true) then return false end
  end
  return true
end
local function has_marks(record)
  local envelope = redis.call('HGET', record, 'envelope') or ''
  bytes = bytes - #envelope
  local head = string.sub(envelope, 1, string.find(envelope, '},"arguments":', 1, true))
  for _, group in ipairs(groups) do
    local found = false
    for _, mark in ipairs(group) do found = found or string.find(head, mark, 1, true) end
    if not found then return false end
  end
  return true
end
local from
local at = redis.call('ZSCORE', key, after)
if at and tonumber(at) == tonumber(top) then
  from = redis.call('ZREVRANK', key, after) + 1
else
  from = redis.call('ZCOUNT', key, '(' .. top, '+inf')
end
local found, looked, over = {}, 0, 0
local page = redis.call('ZREVRANGE', key, from, from + step - 1, 'WITHSCORES')
if #page < 2 * step then over = 1 end
for m = 1, #page, 2 do
  local id, score = page[m], page[m + 1]
  if tonumber(score) < tonumber(low) then
    over = 1
    break
  end
  looked, after, top = looked + 1, id, score
  local record = prefix .. 'record:' .. id
  local status = redis.call('HGET', record, 'status')
  if not status then
    if gone == '1' then redis.call('ZREM', key, id) end
  elseif string.find(statuses, ' ' .. status .. ' ', 1, true)
    and (#groups == 0 or has_marks(record)) and (words == 0 or has_words(record)) then
    found[#found + 1], found[#found + 2] = id, score
  end
  if #found >= 2 * limit or bytes <= 0 then
    if m + 1 < #page then over = 0 end
    break
  end
end
return {looked, over, top, after, unpack(found)}
"""


@dataclass(frozen=True)
class Kind:
    """What is wanted of indexes that are alike."""

    wanted: Wanted
    statuses: Sequence[str]
    #: Of each group one text is in a wanted job's envelope.
    marks: Sequence[Sequence[str]] = ()
    #: Seconds from the jobs' times to the indexes' scores; and what scores are looked at.
    shift: float = 0.0
    bounds: tuple[float, float] = (-inf, inf)
    #: Ids without a record are removed from them.
    forgets: bool = False
    #: They have only jobs of the sites that are searched.
    is_of_site: bool = True
    lowest: float = field(init=False)
    highest: float = field(init=False)
    #: The last arguments of SIEVE.
    arguments: Sequence[Any] = field(init=False)

    def __post_init__(self) -> None:
        since, until = self.wanted.since, self.wanted.until
        lowest = max(self.bounds[0], self.shift + (-inf if since is None else since))
        highest = min(self.bounds[1], self.shift + (inf if until is None else until))
        # Redis knows the small letters of ASCII alone; of the others Python looks at.
        words = [word for word in self.wanted.words if word.isascii()]
        groups = [str(part) for group in self.marks for part in (len(group), *group)]
        object.__setattr__(self, "lowest", lowest)
        object.__setattr__(self, "highest", highest)
        arguments = f" {' '.join(self.statuses)} ", int(self.forgets), len(words), *words, *groups
        object.__setattr__(self, "arguments", arguments)

    def start(self, position: Position) -> Position:
        """Where its indexes are read from, behind that place."""
        if position.time + self.shift > self.highest:
            return Position(self.highest - self.shift, FIRST)
        return position


class Stream:
    """What is wanted of one index, latest first, from a place on."""

    def __init__(self, kind: Kind, key: str, position: Position, head: float) -> None:
        """Behind that place; ``head`` is the score of the first entry there."""
        self.key, self.is_of_site, self._kind = key, kind.is_of_site, kind
        self._ready: deque[Position] = deque()
        here: Position | None = kind.start(position)
        if here and head < here.time + kind.shift:
            here = Position(head - kind.shift, FIRST)
        self._reached = here
        self._asked, self._step = FIRST_ASKED, FIRST_STEP

    @property
    def next(self) -> Position | None:
        """The place of the next wanted job, or a place before that; None if there is none."""
        return self._ready[0] if self._ready else self._reached

    @property
    def is_ready(self) -> bool:
        """Whether the next wanted job is known, or that there is none."""
        return bool(self._ready) or self._reached is None

    def take(self) -> Position | None:
        """The place of the next wanted job; None if ``look`` must find it first."""
        return self._ready.popleft() if self._ready else None

    def ask(self, ledger: Ledger, limit: int, *, is_only: bool, pipe: Any) -> None:
        """Have the pipeline look at some more of its entries: the more, the more often."""
        here = self._reached or Position(-inf, FIRST)
        if is_only:
            self._asked, self._step = limit, STEP
        self._asked = max(self._asked, limit // LARGE)
        ledger._script(SIEVE)(
            keys=[self.key],
            args=[
                ledger._prefix, repr(here.time + self._kind.shift), here.id,
                repr(self._kind.lowest), self._step, STEP_BYTES, self._asked,
                *self._kind.arguments,
            ],
            client=pipe,
        )  # fmt: skip
        self._asked, self._step = min(limit, 2 * self._asked), min(STEP, 2 * self._step)

    def hear(self, reply: Sequence[Any]) -> int:
        """Note what was found; gives how many entries were looked at."""
        here = self._reached
        looked, over, top, after, *found = reply
        pairs = zip(found[::2], found[1::2], strict=True)
        places = (self._place(message_id, score) for message_id, score in pairs)
        # Of jobs of the same time some come before this place by their ids, and were taken.
        self._ready += [place for place in places if here and place < here]
        self._reached = None if over else self._place(after, top)
        return int(looked)

    def _place(self, message_id: str, score: str) -> Position:
        return Position(float(score) - self._kind.shift, as_bytes(message_id))


def look(
    ledger: Ledger, streams: Sequence[Stream], limit: int, *, is_only: bool
) -> tuple[int, int]:
    """Look at some more entries of these, in one round trip; ``limit`` found ones will do.

    ``is_only``: there is no other to look at.  Gives how many were looked at, and how many of them
    were of the sites that are searched.
    """
    with ledger.reaching(), ledger.redis.pipeline(transaction=False) as pipe:
        for stream in streams:
            stream.ask(ledger, limit, is_only=is_only, pipe=pipe)
        replies = pipe.execute()
    looked = [stream.hear(reply) for stream, reply in zip(streams, replies, strict=True)]
    of_site = (n for stream, n in zip(streams, looked, strict=True) if stream.is_of_site)
    return sum(looked), sum(of_site)
