"""Jobs that are not in the search indexes are put there, a few at a time.

Other versions recorded them, or the indexes were not kept then; a search finds such jobs as well,
by a look at all of their site's.  What stands there too much goes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.indexes import OPEN_STATE, Indexes
from frappe_jobs.ledger.indexing import UNTOUCHED, ended_tokens, tokens_of
from frappe_jobs.ledger.record import ENDED, FAILED, OPEN, Record
from frappe_jobs.ledger.wanted import error_words

#: Jobs in a step: Redis does nothing else meanwhile.
STEP = 500
#: Seconds for which the place of a site is remembered that nobody goes on with.
REMEMBERED = 24 * 3600

# Behind the prefix of each job: its id, its status as it was read, its score, the seconds for which
# the index stays, what it is found by (between spaces).  Not what has changed since.
PUT = """
local prefix = ARGV[1]
for n = 2, #ARGV, 5 do
  local id, status, score, ttl, index = unpack(ARGV, n, n + 4)
  local record = prefix .. 'record:' .. id
  if redis.call('HGET', record, 'status') == status then
    local is_open = status == 'queued' or status == 'started'
    for one in string.gmatch(index, '%S+') do
      local key = prefix .. 'by:' .. one .. ':' .. (is_open and 'open' or status)
      redis.call('ZADD', key, score, id)
      redis.call('EXPIRE', key, ttl)
    end
    if status == 'failed' then redis.call('HSET', record, 'indexed', index) end
  end
end
"""

# of the ids from that place on in the first index those go that are not in the second
# gives how many were looked at, and how many went
DROP = """
local index, whole = unpack(KEYS)
local place, step = unpack(ARGV)
local ids, gone = redis.call('ZRANGE', index, place, place + step - 1), 0
for _, id in ipairs(ids) do
  if not redis.call('ZSCORE', whole, id) then
    redis.call('ZREM', index, id)
    gone = gone + 1
  end
end
return {#ids, gone}
"""


class Backfill:
    """Fills the search indexes of a bench."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings
        self._indexes = Indexes(ledger, settings)

    def fill_all(self, seconds: float) -> bool:
        """Go on for about so many seconds where the last call has ended; True once all is there.

        Raises BrokerUnavailable.
        """
        deadline = time.monotonic() + seconds
        for site in self._settings.sites.names():
            while not self._indexes.is_whole(site):
                if time.monotonic() > deadline:
                    return False
                self._step(site)
        return True

    def _step(self, site: str) -> None:
        """One step of the round over all that the site has, and over its indexes."""
        with self._ledger.reaching():
            remembered = self._ledger._key("by", "filled", site)
            part, place = (self._ledger.redis.get(remembered) or "0 0").split()
            rounds = [*self._rounds(site)]
            index, whole = rounds[int(part) % len(rounds)]
            looked, gone = self._look(site, index, whole, int(place))
            if looked < STEP:
                behind = f"{(int(part) + 1) % len(rounds)} 0"
            else:
                behind = f"{part} {int(place) + looked - gone}"
            self._ledger.redis.set(remembered, behind, ex=REMEMBERED)

    def _rounds(self, site: str) -> list[tuple[str, str | None]]:
        """Indexes to go through: the site's own (None), and those that must not have more."""
        found: list[tuple[str, str | None]] = []
        for base, states in (("open", (OPEN_STATE,)), ("ended", ENDED)):
            whole = self._ledger._key(base, site)
            parts = (self._indexes.whole(site, state) for state in states)
            found += [(whole, None), *((part, whole) for part in parts)]
        return found

    def _look(self, site: str, index: str, whole: str | None, place: int) -> tuple[int, int]:
        if whole is not None:
            looked, gone = self._ledger._script(DROP)(keys=[index, whole], args=[place, STEP])
            return looked, gone
        ids = self._ledger.redis.zrange(index, place, place + STEP - 1)
        records = self._ledger.read_all(ids)
        self._put([record for record in records if record.message.site == site])
        lost = {*ids} - {record.message.id for record in records}
        if lost and index == self._ledger._key("ended", site):  # their time is over
            self._ledger.redis.zrem(index, *lost)
            return len(ids), len(lost)
        return len(ids), 0

    def _put(self, records: Sequence[Record]) -> None:
        arguments: list[object] = [self._ledger._prefix]
        for record in records:
            message, status = record.message, record.status
            if status in OPEN:
                score, ttl, tokens = message.enqueued_at, UNTOUCHED, tokens_of(message)
            else:
                score = record.ended_at or message.enqueued_at
                words = error_words(record.reason, record.error) if status == FAILED else ()
                tokens, settings = ended_tokens(message, words), self._settings
                ttl = settings.job_failure_ttl if status == FAILED else settings.results_ttl
            arguments += message.id, status, repr(score), ttl, " ".join(tokens)
        self._ledger._script(PUT)(args=arguments)
