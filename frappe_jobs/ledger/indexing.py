"""What searches are quick by: each site's jobs by queue, method and user, and by words of errors.

The indexes are written in the very step that changes a job.  Where none are kept, the steps'
scripts, keys and arguments are those without them.

An index is named after what it is of, and after ``open`` or how its jobs have ended: it is sorted
by when they were enqueued, or ended.  It need not be whole, for a job may have been recorded by
another version; ``ledger/indexes.py`` sees that by those of whole sites, and fills the gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

from frappe_jobs.ledger.counting import Counting
from frappe_jobs.ledger.record import FAILED
from frappe_jobs.ledger.scripts import END, RECORD
from frappe_jobs.ledger.wanted import error_words
from frappe_jobs.message import Message, to_json

#: Seconds after which an index of jobs that wait goes, where nobody adds to it: also once no
#: indexes are kept any more.
UNTOUCHED = 7 * 24 * 3600

#: The step's text goes between these; its reply is what it was.
AROUND = """{head}
local function indexed_step()
{step}
end
{before}
local reply = indexed_step()
{after}
return reply
"""

# What need not happen each time happens for one of sixteen made ids.
ADD_OPEN = f"""
for n = 1, #index / 6 do
  if reply[n] == 1 or reply[n] == 3 then
    local id, at = index[6 * n - 5], index[6 * n - 4]
    for m = 6 * n - 3, 6 * n do
      local key = ARGV[1] .. 'by:' .. index[m] .. ':open'
      redis.call('ZADD', key, at, id)
      if string.sub(id, 1, 1) == '0' then redis.call('EXPIRE', key, {UNTOUCHED}) end
    end
  end
end
"""

# index: what the job is found by, between spaces: its queue, method, user and site, then words
# What the step drops from the failed ones, as they are too many, goes from the indexes as well.
BEFORE_END = """
local doomed = {}
local was = redis.call('HGET', KEYS[1], 'status')
if ARGV[3] == 'failed' then
  local surplus = redis.call('ZCARD', KEYS[5]) - ARGV[5]
  if surplus >= 0 then
    for _, id in ipairs(redis.call('ZRANGE', KEYS[5], 0, surplus)) do
      doomed[id] = redis.call('HMGET', by .. 'record:' .. id, 'indexed', 'envelope')
    end
  end
end
"""
MOVE = """
if reply == 1 and (was == 'queued' or was == 'started') then
  local id, now, status, ttl = unpack(ARGV, 1, 4)
  local n = 0
  for one in string.gmatch(index, '%S+') do
    local key = by .. 'by:' .. one .. ':'
    n = n + 1
    if n < 5 then redis.call('ZREM', key .. 'open', id) end
    if string.sub(id, 1, 1) == '0' then
      redis.call('ZREMRANGEBYSCORE', key .. status, '-inf', now - ttl)
    end
    redis.call('ZADD', key .. status, now, id)
    redis.call('EXPIRE', key .. status, ttl)
  end
  if status == 'failed' then redis.call('HSET', KEYS[1], 'indexed', index) end
end
for id, known in pairs(doomed) do
  if redis.call('EXISTS', by .. 'record:' .. id) == 0 then
    for one in string.gmatch(known[1] or '', '%S+') do
      redis.call('ZREM', by .. 'by:' .. one .. ':failed', id)
    end
    local site = string.match(known[2] or '', '"site":"(.-)"')
    if site then redis.call('ZREM', by .. 'ended:' .. site, id) end
  end
end
"""


@lru_cache(maxsize=4)
def _indexed(step: str, is_end: bool) -> str:
    """That step's script, which writes the indexes as well."""
    if is_end:
        head = "local index, by = table.remove(ARGV), table.remove(ARGV)"
        return AROUND.format(head=head, step=step, before=BEFORE_END, after=MOVE)
    head = "local index = cjson.decode(table.remove(ARGV))"
    return AROUND.format(head=head, step=step, before="", after=ADD_OPEN)


@lru_cache(maxsize=8192)
def token(site: str, kind: str, value: str = "") -> str:
    """Names what jobs of a site are found by: short, whatever the value, and no two alike."""
    return blake2b(to_json([site, kind, value]).encode(), digest_size=10).hexdigest()


def tokens_of(message: Message) -> list[str]:
    """What a job is found by, while it waits or runs: its queue, method, user and site."""
    site = message.site
    return [
        token(site, "queue", message.queue),
        token(site, "method", message.method),
        token(site, "user", message.user),
        token(site, "site"),
    ]


def ended_tokens(message: Message, words: Iterable[str] = ()) -> list[str]:
    """What it is found by once it has ended: by words as well, if it failed."""
    of_words = (token(message.site, "word", word) for word in words)
    return [*tokens_of(message), *of_words]


class Indexing(Counting):
    """Which script a step is, and what it is told for the indexes."""

    def _text_of(self, script: str) -> str:
        text = super()._text_of(script)
        if self._settings.keeps_search_index and script in (RECORD, END):
            return _indexed(text, script == END)
        return text

    def _places(self, messages: Sequence[Message]) -> Sequence[object]:
        """Behind the labels of RECORD; nothing where no indexes are kept."""
        if not self._settings.keeps_search_index:
            return ()
        found: list[str] = []
        for message in messages:
            found += [message.id, repr(message.enqueued_at), *tokens_of(message)]
        return (to_json(found),)

    def _places_at_end(
        self, message: Message, status: str, fields: Mapping[str, str]
    ) -> Sequence[object]:
        """Behind the labels of END; nothing where no indexes are kept."""
        if not self._settings.keeps_search_index:
            return ()
        words: Sequence[str] = ()
        if status == FAILED:
            words = error_words(fields.get("reason"), fields.get("error"))
        return self._prefix, " ".join(ended_tokens(message, words))

    def index_key(self, one: str, state: str) -> str:
        """Of the jobs that are found by a token: ``open`` ones, or of a status of their end."""
        return self._key("by", one, state)
