"""What happens to jobs, counted by minute in the very step in which it happens.

Where no history is kept, the steps' scripts, keys and arguments are those without it: the scripts
only have marks, ``-- counted: …``, where these texts come in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from frappe_jobs.ledger.connection import as_bytes
from frappe_jobs.ledger.keys import BenchRedis, JobKeys
from frappe_jobs.ledger.scripts import END, RECORD, RETRY, START
from frappe_jobs.message import Message

#: What is counted, by one letter.  The last three bear the number of their time's class behind the
#: letter, where the time is known.
ENQUEUED, STARTED, RETRIED, CANCELLED, LEASE_LOST, DELIVERED_AGAIN = "esrcld"
WAITED, FINISHED, FAILED = "wfx"
#: A minute's hash, with a field ``letter:names`` for all that a job counts by: one step for three
#: numbers, which folding takes apart.  It has no more than so many fields.
JOBS, JOBS_FIELDS = "jobs", 4_000
#: What is counted by, in the order of the names.  What finds the minute's hash full is counted in
#: one hash for each of these, with so many fields ``letter:name``; and behind those for no name.
FIELDS = {"queue": 5_000, "site": 40_000, "method": 10_000}
#: A hash: by method, how often it has failed since it last succeeded; of so many methods.
IN_A_ROW, MOST_IN_A_ROW = "history:in_a_row", 5_000
#: Seconds for which a minute is kept that nobody folds.
UNFOLDED = 2 * 24 * 3600
#: A name may have so many characters; of a longer one its head counts.
LONGEST_NAME = 140

#: Times are known by their class: each is 2^(1/4) of the one before, from a millisecond to 12 days.
CLASSES_TO_DOUBLE, LAST_CLASS, SHORTEST = 4, 120, 0.001

#: Which of a step's keys is that of what runs.
RUNNING = JobKeys._fields.index("running") + 1

LIMITS = ", ".join(f"{{'{kind}', {limit}}}" for kind, limit in FIELDS.items())

#: Takes names apart: gives how long the queue's and the site's are, and all three in one.
NAMES = "^(%d+):(%d+):(.*)$"

#: Most counts are one HINCRBY; what is behind it is for the first of a field in its minute.
COUNT = f"""
local function count(code, names, by, now)
  local minute = math.floor((now or redis.call('TIME')[1]) / 60)
  local key, field = history .. '{JOBS}:' .. minute, code .. ':' .. names
  if redis.call('HINCRBY', key, field, by) ~= by then return end
  local function has_room(most)
    local fields = redis.call('HLEN', key)
    if fields == 1 then
      redis.call('EXPIRE', key, {UNFOLDED})
      redis.call('ZREMRANGEBYSCORE', history .. 'unfolded', '-inf', minute - {UNFOLDED // 60})
      redis.call('ZADD', history .. 'unfolded', minute, minute)
    elseif fields > most then
      redis.call('HDEL', key, field)
      return false
    end
    return true
  end
  if has_room({JOBS_FIELDS}) then return end
  local queue, site, all = string.match(names, '{NAMES}')
  queue, site = tonumber(queue), queue + site
  names = {{string.sub(all, 1, queue), string.sub(all, queue + 1, site), string.sub(all, site + 1)}}
  for n, limit in ipairs({{{LIMITS}}}) do
    key, field = history .. limit[1] .. ':' .. minute, code .. ':' .. names[n]
    if redis.call('HINCRBY', key, field, by) == by and not has_room(limit[2]) then
      field = code .. ':'
      if redis.call('HINCRBY', key, field, by) == by then has_room(math.huge) end
    end
  end
end
"""

OF_JOB = f"""
local names = table.remove(ARGV)
local history = string.sub(KEYS[{RUNNING}], 1, -#'running' - 1) .. 'history:'
{COUNT}"""

OF_JOBS = f"""
local names, many = {{}}, (#ARGV - 5) / 3
for n = many, 1, -1 do names[n] = table.remove(ARGV) end
local history, sums = ARGV[1] .. 'history:', {{}}
{COUNT}"""


def _class(seconds: str) -> str:
    """In Lua, the class of that time; clocks that differ, or are set back, make none negative."""
    shortest, to_e = SHORTEST, CLASSES_TO_DOUBLE / math.log(2)
    doubled = f"math.log(math.max({seconds}, {shortest}) / {shortest})"
    return f"math.min({LAST_CLASS}, math.ceil({doubled} * {to_e}))"


#: By script: what is counted at its marks, and what stands before it.
COUNTED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    RECORD: (
        OF_JOBS,
        {
            "recorded": "sums[names[n]] = (sums[names[n]] or 0) + 1",
            "done": f"""sums[''] = nil  -- written anew: it was counted before
for names, by in pairs(sums) do count('{ENQUEUED}', names, by) end""",
        },
    ),
    START: (
        OF_JOB,
        {
            "ended": f"if status ~= 'cancelled' then count('{DELIVERED_AGAIN}', names, 1) end",
            "held": f"count('{DELIVERED_AGAIN}', names, 1)",
            "lost": f"count('{LEASE_LOST}', names, 1)",
            "started": f"""
local now = clock()
local waited = now - math.max(enqueued_at, due or 0)
count(attempt == 1 and '{WAITED}' .. {_class("waited")} or '{STARTED}', names, 1, now)""",
        },
    ),
    RETRY: (OF_JOB, {"retried": f"if counts == '1' then count('{RETRIED}', names, 1) end"}),
    END: (
        OF_JOB,
        {"ended": f"""
if status == 'cancelled' then
  count('{CANCELLED}', names, 1)
else
  local code = status == 'failed' and '{FAILED}' or '{FINISHED}'
  if present == 'started' then code = code .. {_class("now - (begun or now)")} end
  count(code, names, 1)
end
local queue, site, all = string.match(names, '{NAMES}')
local failing, method = history .. 'in_a_row', string.sub(all, queue + site + 1)
if status == 'finished' then
  redis.call('HDEL', failing, method)
elseif status == 'failed' and redis.call('HINCRBY', failing, method, 1) == 1 then
  redis.call('EXPIRE', failing, 30 * 86400)
  if redis.call('HLEN', failing) > {MOST_IN_A_ROW} then redis.call('HDEL', failing, method) end
end"""},
    ),
}


@lru_cache(maxsize=8)
def counting(script: str) -> str:
    """The script, which counts at its marks."""
    head, marks = COUNTED[script]
    for mark, text in marks.items():
        script = script.replace(f"-- counted: {mark}\n", f"{text}\n")
    return head + script


class Counting(BenchRedis):
    """Which script a step is, and what it is told beside its own arguments."""

    def _step(self, script: str) -> Any:
        return self._script(self._text_of(script))

    def _text_of(self, script: str) -> str:
        return counting(script) if self._settings.keeps_history else script

    def _labels(self, message: Message) -> Sequence[object]:
        """Behind the arguments of START, RETRY and END; nothing where no history is kept."""
        if not self._settings.keeps_history:
            return ()
        return (_names_of(message),)

    def _all_labels(self, messages: Sequence[Message], *, anew: bool) -> Sequence[object]:
        """Behind those of RECORD; what is written ``anew`` was counted before."""
        if not self._settings.keeps_history:
            return ()
        return ["" if anew else _names_of(message) for message in messages]


def _names_of(message: Message) -> bytes:
    return _names(message.queue, message.site, message.method)


@lru_cache(maxsize=4096)
def _names(queue: str, site: str, method: str) -> bytes:
    """All three in one, whatever is in them: how long the first two are, then the texts."""
    names = [text[:LONGEST_NAME].encode("utf-8", "surrogatepass") for text in (queue, site, method)]
    return b"%d:%d:" % (len(names[0]), len(names[1])) + b"".join(names)


def read_field(field: str) -> tuple[str, tuple[str, ...]]:
    """What was counted, and of which queue, site and method, from a field of a minute's jobs."""
    code, queue, site, rest = as_bytes(field).split(b":", 3)
    ends = int(queue), int(queue) + int(site)
    names = rest[: ends[0]], rest[ends[0] : ends[1]], rest[ends[1] :]
    return code.decode(), tuple(name.decode("utf-8", "surrogateescape") for name in names)
