"""An index read downwards in short steps inside of Redis, which lets through what is wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.connection import as_bytes
from frappe_jobs.ledger.cursor import FIRST, Position
from frappe_jobs.ledger.wanted import Wanted

#: Entries that one step looks at: Redis does nothing else meanwhile.
STEP = 1_000
#: Bytes of envelopes after which a step ends as well.
STEP_BYTES = 2_000_000
#: Indexes whose newest entries are asked for in one call.
HEADS_STEP = 500

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

# gives of each index the highest score that is no higher and no lower than its two limits
HEADS = """
local heads = {}
for n, key in ipairs(KEYS) do
  local found = redis.call('ZREVRANGEBYSCORE', key, ARGV[2 * n - 1], ARGV[2 * n], 'WITHSCORES',
    'LIMIT', 0, 1)
  heads[n] = found[2] or ''
end
return heads
"""


class Stream:
    """What is wanted of one index, latest first, from a place on."""

    def __init__(
        self,
        ledger: Ledger,
        key: str,
        wanted: Wanted,
        *,
        statuses: Sequence[str],
        marks: Sequence[Sequence[str]] = (),
        shift: float = 0.0,
        bounds: tuple[float, float] = (-inf, inf),
        forgets: bool = False,
        is_of_site: bool = True,
    ) -> None:
        """``shift``: seconds from the jobs' times to its scores; ``bounds``: of the scores.

        ``marks``: of each group one text is in a wanted job's envelope.  ``forgets``: ids without a
        record are removed from it.  ``is_of_site``: it has only the site's jobs.
        """
        self.key, self._ledger, self._shift = key, ledger, shift
        self.is_of_site = is_of_site
        self.lowest = max(bounds[0], shift + (-inf if wanted.since is None else wanted.since))
        self._highest = min(bounds[1], shift + (inf if wanted.until is None else wanted.until))
        self._statuses = f" {' '.join(statuses)} "
        #: Redis knows the small letters of ASCII alone; of the others Python looks at.
        self._words = [word for word in wanted.words if word.isascii()]
        self._groups = [str(part) for group in marks for part in (len(group), *group)]
        self._forgets = int(forgets)
        self._ready: deque[Position] = deque()
        self._reached: Position | None = None

    def begin(self, position: Position) -> None:
        """Go on behind that place."""
        if position.time + self._shift > self._highest:
            position = Position(self._highest - self._shift, FIRST)
        self._reached = position

    @property
    def top(self) -> float:
        """The highest score that may still come."""
        return self._reached.time + self._shift if self._reached else -inf

    def found_head(self, score: str) -> None:
        """Note that the next one has that score; '': there is none."""
        if not score:
            self._reached = None
        elif self._reached and float(score) < self.top:
            self._reached = Position(float(score) - self._shift, FIRST)

    @property
    def next(self) -> Position | None:
        """The place of the next wanted job, or a place before that; None if there is none."""
        return self._ready[0] if self._ready else self._reached

    def take(self) -> Position | None:
        """The place of the next wanted job; None if ``look`` must find it first."""
        return self._ready.popleft() if self._ready else None

    def look(self, limit: int) -> int:
        """Look at some more of its entries; gives how many they were."""
        here = self._reached
        if here is None:
            return 0
        arguments = [
            self._ledger._prefix, repr(self.top), here.id, repr(self.lowest), STEP, STEP_BYTES,
            limit, self._statuses, self._forgets, len(self._words), *self._words, *self._groups,
        ]  # fmt: skip
        with self._ledger.reaching():
            looked, over, top, after, *found = self._ledger._script(SIEVE)(
                keys=[self.key], args=arguments
            )
        pairs = zip(found[::2], found[1::2], strict=True)
        places = (self._place(message_id, score) for message_id, score in pairs)
        # Of jobs of the same time some come before this place by their ids, and were taken.
        self._ready += [place for place in places if place < here]
        self._reached = None if over else self._place(after, top)
        return int(looked)

    def _place(self, message_id: str, score: str) -> Position:
        return Position(float(score) - self._shift, as_bytes(message_id))


def find_heads(ledger: Ledger, streams: Sequence[Stream]) -> None:
    """Move each to its first entry, so that only those are read whose entries come next."""
    for start in range(0, len(streams), HEADS_STEP):
        chunk = streams[start : start + HEADS_STEP]
        bounds = [repr(bound) for stream in chunk for bound in (stream.top, stream.lowest)]
        with ledger.reaching():
            heads = ledger._script(HEADS)(keys=[stream.key for stream in chunk], args=bounds)
        for stream, head in zip(chunk, heads, strict=True):
            stream.found_head(head)
