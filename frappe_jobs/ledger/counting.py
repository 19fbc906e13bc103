"""What happens to jobs, counted by minute in the very step in which it happens.

Where no history is kept, the steps' scripts, keys and arguments are those without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.ledger.scripts import END, RECORD, RETRY, START
from frappe_jobs.message import Message, to_json

#: What is counted, by one letter, in a field ``letter:name``.  The last three bear the number of
#: their time's class behind the letter, where the time is known.
ENQUEUED, STARTED, RETRIED, CANCELLED, LEASE_LOST, DELIVERED_AGAIN = "esrcld"
WAITED, FINISHED, FAILED = "wfx"
#: By what is counted, and how many fields a minute's hash may have of it; what comes later counts
#: for no name.
FIELDS = {"queue": 5_000, "site": 40_000, "method": 10_000}
#: A hash: by method, how often it has failed since it last succeeded; of so many methods.
IN_A_ROW, MOST_IN_A_ROW = "history:in_a_row", 5_000
#: Seconds for which a minute is kept that nobody folds.
UNFOLDED = 2 * 24 * 3600
#: A name may have so many characters; of a longer one its head counts.
LONGEST_NAME = 140

#: Times are known by their class: each is 2^(1/4) of the one before, from a millisecond to 12 days.
CLASSES_TO_DOUBLE, LAST_CLASS, SHORTEST = 4, 120, 0.001

LIMITS = ", ".join(f"{kind} = {limit}" for kind, limit in FIELDS.items())

# The step's own text stays whole, and its reply is what it was.  By Redis's clock: one for all.
COUNT = f"""
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local minute = math.floor(now / 60)
local function count(kind, name, code, by)
  local key = prefix .. 'history:' .. kind .. ':' .. minute
  local field = code .. ':' .. name
  if redis.call('HINCRBY', key, field, by) ~= by then return end
  local fields = redis.call('HLEN', key)
  if fields == 1 then
    redis.call('EXPIRE', key, {UNFOLDED})
    redis.call('ZREMRANGEBYSCORE', prefix .. 'history:unfolded', '-inf', minute - {UNFOLDED // 60})
    redis.call('ZADD', prefix .. 'history:unfolded', minute, minute)
  elseif fields > ({{{LIMITS}}})[kind] then
    redis.call('HDEL', key, field)
    redis.call('HINCRBY', key, code .. ':', by)
  end
end
local function count_job(code)
  count('queue', queue, code, 1)
  count('site', site, code, 1)
  count('method', method, code, 1)
end
-- clocks that differ, or are set back, make no time negative
local function class(seconds)
  if not seconds or not (seconds > {SHORTEST}) then return 0 end
  local steps = math.log(seconds / {SHORTEST}) * {CLASSES_TO_DOUBLE} / math.log(2)
  return math.min({LAST_CLASS}, math.ceil(steps))
end
"""

OF_JOB = """
local last = #ARGV
local prefix, site, queue, method, enqueued_at = unpack(ARGV, last - 4)
for place = last, last - 4, -1 do ARGV[place] = nil end
"""


def _around(script: str, head: str, before: str, after: str) -> str:
    """The script, with what is looked at before it, and counted after it; its reply stays."""
    step = f"local function step()\n{script}\nend\n"
    return f"{head}{step}{before}\nlocal reply = step()\n{COUNT}{after}\nreturn reply\n"


#: Each script that counts, by the one that does not.
COUNTED = {
    RECORD: _around(
        RECORD,
        "local labels, prefix = cjson.decode(table.remove(ARGV)), ARGV[1]\n"
        "local queue, site, method\n",
        "",
        f"""
local sums = {{queue = {{}}, site = {{}}, method = {{}}}}
for n, label in ipairs(labels) do
  if reply[n] == 1 then
    for kind, name in pairs({{site = label[1], queue = label[2], method = label[3]}}) do
      sums[kind][name] = (sums[kind][name] or 0) + 1
    end
  end
end
for kind, names in pairs(sums) do
  for name, by in pairs(names) do count(kind, name, '{ENQUEUED}', by) end
end
""",
    ),
    START: _around(
        START,
        OF_JOB,
        "local status, begun = unpack(redis.call('HMGET', KEYS[1], 'status', 'run'))",
        f"""
local code = reply[1]
if code > 0 and not (status == 'started' and begun == ARGV[6]) then
  if status == 'started' then count_job('{LEASE_LOST}') end
  count_job(code == 1 and '{WAITED}' .. class(now - enqueued_at) or '{STARTED}')
elseif code == -3 then
  count_job('{LEASE_LOST}')
elseif code == -2 or code == 0 and status ~= 'cancelled' then
  count_job('{DELIVERED_AGAIN}')
end
""",
    ),
    RETRY: _around(
        RETRY,
        OF_JOB,
        "",
        f"if reply == 1 and ARGV[4] == '1' then count_job('{RETRIED}') end",
    ),
    END: _around(
        END,
        OF_JOB,
        "local status, begun = unpack(redis.call('HMGET', KEYS[1], 'status', 'started_at'))",
        f"""
if reply == 1 and (status == 'queued' or status == 'started') then
  local code = '{CANCELLED}'
  if ARGV[3] ~= 'cancelled' then
    code = ARGV[3] == 'failed' and '{FAILED}' or '{FINISHED}'
    if status == 'started' then code = code .. class(ARGV[2] - (begun or ARGV[2])) end
  end
  count_job(code)
  local failing = prefix .. '{IN_A_ROW}'
  if ARGV[3] == 'finished' then
    redis.call('HDEL', failing, method)
  elseif ARGV[3] == 'failed' and redis.call('HINCRBY', failing, method, 1) == 1 then
    redis.call('EXPIRE', failing, 30 * 86400)
    if redis.call('HLEN', failing) > {MOST_IN_A_ROW} then redis.call('HDEL', failing, method) end
  end
end
""",
    ),
}


class Counting(BenchRedis):
    """Which script a step is, and what it is told beside its own arguments."""

    def _step(self, script: str) -> Any:
        return self._script(self._text_of(script))

    def _text_of(self, script: str) -> str:
        return COUNTED[script] if self._settings.keeps_history else script

    def _labels(self, message: Message) -> Sequence[object]:
        """Behind the arguments of START, RETRY and END; nothing where no history is kept."""
        if not self._settings.keeps_history:
            return ()
        return self._prefix, *_labels_of(message), repr(message.enqueued_at)

    def _all_labels(self, messages: Sequence[Message], *, anew: bool) -> Sequence[object]:
        """Behind those of RECORD; what is written ``anew`` was counted before."""
        if not self._settings.keeps_history:
            return ()
        return (to_json([] if anew else [*map(_labels_of, messages)]),)


def _labels_of(message: Message) -> Sequence[str]:
    texts = message.site, message.queue, message.method
    return [text[:LONGEST_NAME] for text in texts]
