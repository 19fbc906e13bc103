"""How many jobs may run at once, or begin in a time: read and counted in the step that begins one.

What is limited is a hash of rules, by what they hold for: ``bench``, ``site`` (each one),
``site NAME``, ``queue NAME``, ``method PATH``, ``key`` (each concurrency key).  A rule reads
``running=5;rate=30/60;per=site``.  A job counts under a key for each rule, ``method PATH|site1``.
Of each key, behind ``limit:``:

- ``running:KEY``: who runs under it, sorted by when their lease was to end as it was last seen, or
  by minus when it was first found to have ended;
- ``begun:KEY``: who began, by when, in the time of the rate;
- ``waiting:KEY``: who was refused (``queue|id``), by their rank in the queue;
- ``called:KEY``: who was sent for since, as there was room, and has not begun yet.

``limit:looks`` are the keys with jobs that wait, by when they are worth a look, ``limit:seen``
those under which jobs have counted.  A job that was refused stands in its queue's ``limited`` as
well, in no other place, and has no message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha1
from threading import Event

import redis

from frappe_jobs.ledger.clock import CLOCK
from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.message import Message, to_json

#: Begins the name of each key that counts something.
OF_LIMITS = "limit:"
#: How many are looked at, or sent for, in one step.
STEP = 50
#: Seconds within which a job that was sent for should have begun: it may be one of a queue that is
#: paused, or whose workers are busy, and then the next one is sent for.
ANSWER = 2
#: Seconds until a key with jobs that wait is looked at again, though nobody has said that there is
#: room: a process that died says nothing, and a rule may change.
LOOK = 1
#: How many keys are kept that jobs have counted under last, for people who ask.
SEEN = 1_000
#: Characters of a value that jobs are counted by.
LONGEST_VALUE = 200
#: How a bell is named that is rung when there is room; who hears it sends for what waits.
BELL = f"{OF_LIMITS}bell"

#: Rules, and whether there is room under a key.
ROOM = f"""
local function rule_of(prefix, key)
  local what, value = string.match(key, '^(.-)|(.*)$')
  local rules = redis.call('HMGET', prefix .. 'limits', what, what .. ' ' .. value)
  local text = what == 'site' and rules[2] or rules[1]
  if not text and what == 'key' then text = 'running=1' end
  return text or nil
end
-- After a failover to a clock that is ahead all leases have ended, until they are renewed: a sixth
-- of a lease, and as much for a second try.
local function drop_the_dead(prefix, running, now)
  local found = redis.call('ZRANGEBYSCORE', running, '-inf', now, 'WITHSCORES', 'LIMIT', 0, {STEP})
  for n = 1, #found, 2 do
    local id, score = found[n], tonumber(found[n + 1])
    local left = redis.call('PTTL', prefix .. 'lease:' .. id)
    if left > 0 then
      redis.call('ZADD', running, now + left / 1000, id)
    else
      local renewed_in = (redis.call('HGET', prefix .. 'record:' .. id, 'lease') or 0) / 3
      local dead_for = score < 0 and now + score or -1
      if renewed_in == 0 or dead_for >= renewed_in then
        redis.call('ZREM', running, id)
      elseif dead_for < 0 then
        redis.call('ZADD', running, -now, id)
      end
    end
  end
end
-- gives for how many more there is room, beside those that were sent for; the window of its rate;
-- and whether nobody counts there.  What is over is dropped only where it stands in the way.
local function room(prefix, key, text, now)
  local limits = prefix .. '{OF_LIMITS}'
  local free, most, is_empty = math.huge, tonumber(string.match(text, 'running=(%d+)')), true
  local rate, window = string.match(text, 'rate=(%d+)/(%d+)')
  if most then
    local running = limits .. 'running:' .. key
    local count = redis.call('ZCARD', running)
    if count >= most then
      drop_the_dead(prefix, running, now)
      count = redis.call('ZCARD', running)
    end
    free, is_empty = most - count, count == 0
  end
  if rate then
    local begun = limits .. 'begun:' .. key
    local count = redis.call('ZCARD', begun)
    if count >= tonumber(rate) then
      redis.call('ZREMRANGEBYSCORE', begun, '-inf', now - window)
      count = redis.call('ZCARD', begun)
    end
    free, is_empty = math.min(free, rate - count), is_empty and count == 0
  end
  local called = limits .. 'called:' .. key
  local count = redis.call('ZCARD', called)
  if count > 0 then
    redis.call('ZREMRANGEBYSCORE', called, '-inf', now - {ANSWER})
    free = free - redis.call('ZCARD', called)
  end
  return free, window, is_empty
end
"""

#: Sends for as many of a key's jobs as there is room for: they are due, and the next look for such
#: jobs sends them.
SEND_FOR = ROOM + f"""
local function send_for(prefix, key, now)
  local limits = prefix .. '{OF_LIMITS}'
  local text, waiting = rule_of(prefix, key), limits .. 'waiting:' .. key
  local free, window = {STEP}, nil
  if text then free, window = room(prefix, key, text, now) end
  local called = 0
  for _ = 1, {STEP} do
    if called >= free then break end
    local place = redis.call('ZPOPMIN', waiting)[1]
    if not place then break end
    local queue, id = string.match(place, '^(.-)|(.*)$')
    -- else it was cancelled, or moved, meanwhile
    if redis.call('ZREM', prefix .. 'limited:' .. queue, id) == 1 then
      redis.call('ZADD', prefix .. 'retrying:' .. queue, now, id)
      if text then
        redis.call('ZADD', limits .. 'called:' .. key, now, id)
        redis.call('EXPIRE', limits .. 'called:' .. key, {ANSWER})
      end
      called = called + 1
    end
  end
  if redis.call('EXISTS', waiting) == 0 then
    redis.call('ZREM', limits .. 'looks', key)
    return called
  end
  local look = now + {LOOK}
  if called == {STEP} then
    look = now
  elseif window then
    local first = redis.call('ZRANGE', limits .. 'begun:' .. key, 0, 0, 'WITHSCORES')[2]
    if first then look = math.max(now, math.min(look, first + window)) end
  end
  redis.call('ZADD', limits .. 'looks', look, key)
  return called
end
"""

#: The same under all keys that are worth a look; gives the seconds until another one is, or nil.
SEND_FOR_ALL = SEND_FOR + f"""
local function send_for_all(prefix, now)
  local looks, sent_for = prefix .. '{OF_LIMITS}looks', 0
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', looks, '-inf', now, 'LIMIT', 0, {STEP})) do
    sent_for = sent_for + send_for(prefix, key, now)
    if sent_for >= {STEP} then break end
  end
  local first = redis.call('ZRANGE', looks, 0, 0, 'WITHSCORES')[2]
  return first and math.max(0, first - now)
end
"""

# The functions are made where they are called: most jobs have no limit, and pay for none.

#: Gives back a job's room, and has the next ones come.
LEAVE_LIMITS = SEND_FOR + f"""
local function leave_limits(prefix, record, id, now)
  local keys, limited = unpack(redis.call('HMGET', record, 'limits', 'limited'))
  local called = 0
  if limited and redis.call('ZREM', prefix .. '{OF_LIMITS}called:' .. limited, id) == 1 then
    called = send_for(prefix, limited, now)
  end
  if keys then redis.call('HDEL', record, 'limits', 'lease') end
  for key in string.gmatch(keys or '', '[^\\n]+') do
    redis.call('ZREM', prefix .. '{OF_LIMITS}running:' .. key, id)
    if redis.call('EXISTS', prefix .. '{OF_LIMITS}waiting:' .. key) == 1 then
      called = called + send_for(prefix, key, now)
    end
  end
  if called > 0 then
    redis.call('LPUSH', prefix .. '{BELL}', '')
    redis.call('LTRIM', prefix .. '{BELL}', 0, 0)
  end
end
"""

#: Finds the limits that hold for a job.
LIMITS_OF = """
-- gives the keys with their rules; or nil and the name of the argument whose value is needed
local function limits_of(prefix, site, queue, method, key, name, value)
  local whats = {'bench', 'site', 'site ' .. site, 'queue ' .. queue, 'method ' .. method}
  local values = {'', site, site, '', ''}
  if key ~= '' then whats[6], values[6] = 'key', site .. ' ' .. key end
  local found, rules = {}, redis.call('HMGET', prefix .. 'limits', unpack(whats))
  for n, what in ipairs(whats) do
    local text, under = rules[n], values[n]
    if what == 'key' and not text then text = 'running=1' end
    if what == 'site' and rules[3] then text = nil end
    if text then
      local per = string.match(text, 'per=(.*)$')
      if per == 'site' then
        under = site
      elseif per and per ~= 'bench' then
        per = string.match(per, '^argument:(.*)$')
        if name ~= per then return nil, per end
        under = site .. ' ' .. value
      end
      found[#found + 1] = {(what == 'site ' .. site and 'site' or what) .. '|' .. under, text}
    end
  end
  return found
end
"""

#: Has a job begin under its limits, or wait for the first that has no room for it.
ENTER_LIMITS = LEAVE_LIMITS + f"""
-- gives the key under which it must wait, else nil: then it counts under all of them
local function enter_limits(prefix, limits, record, id, queue, rank, now, deadline)
  local before, rank_before, held = unpack(redis.call('HMGET', record, 'limited', 'limited_rank',
    'limits'))
  local of, refused = prefix .. '{OF_LIMITS}', nil
  if before then redis.call('ZREM', of .. 'called:' .. before, id) end
  for _, one in ipairs(limits) do
    local key, text = unpack(one)
    -- it still has its room where its process died
    local has_room = held and redis.call('ZSCORE', of .. 'running:' .. key, id)
    if not has_room or string.find(text, 'rate=', 1, true) then
      local free, _, is_empty = room(prefix, key, text, now)
      if is_empty or free < 1 then
        redis.call('ZADD', of .. 'seen', now, key)
        redis.call('ZREMRANGEBYRANK', of .. 'seen', 0, -{SEEN} - 1)
      end
      local is_in_turn = key == before or redis.call('EXISTS', of .. 'waiting:' .. key) == 0
      if free < 1 or not is_in_turn then refused = key break end
    end
  end
  if refused then
    leave_limits(prefix, record, id, now)
    rank = rank_before or rank
    redis.call('HSET', record, 'status', 'queued', 'limited', refused, 'limited_since', now,
      'limited_rank', rank)
    redis.call('ZADD', of .. 'waiting:' .. refused, rank, queue .. '|' .. id)
    redis.call('ZADD', prefix .. 'limited:' .. queue, rank, id)
    send_for(prefix, refused, now)
    if before and before ~= refused then send_for(prefix, before, now) end
    return refused
  end
  local keys = {{}}
  for n, one in ipairs(limits) do
    local key, text = unpack(one)
    keys[n] = key
    if string.find(text, 'running=', 1, true) then
      redis.call('ZADD', of .. 'running:' .. key, deadline, id)
    end
    local window = string.match(text, 'rate=%d+/(%d+)')
    if window then
      redis.call('ZADD', of .. 'begun:' .. key, now, id .. ' ' .. now)
      redis.call('EXPIRE', of .. 'begun:' .. key, math.ceil(window))
    end
  end
  if #keys > 0 then
    redis.call('HSET', record, 'limits', table.concat(keys, '\\n'), 'lease', deadline - now)
  end
  return nil
end
"""

# gives of each key its rule, how many run, began in the time of its rate, and wait
STATE = CLOCK + ROOM + f"""
local prefix, now, found = ARGV[1], clock(), {{}}
local limits = prefix .. '{OF_LIMITS}'
for n = 2, #ARGV do
  local key = ARGV[n]
  local text = rule_of(prefix, key)
  if text then room(prefix, key, text, now) end
  for _, part in ipairs({{key, text or '', redis.call('ZCARD', limits .. 'running:' .. key),
      redis.call('ZCARD', limits .. 'begun:' .. key),
      redis.call('ZCARD', limits .. 'waiting:' .. key)}}) do
    found[#found + 1] = part
  end
end
return found
"""

# Has what waits for room wait for its time instead, which has come; gives how many.
LET_GO = CLOCK + """
local ids = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)
for _, id in ipairs(ids) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZADD', KEYS[2], clock(), id)
end
return #ids
"""


def countable(value: object) -> str:
    """A value as keys bear it: as JSON; of a long one the head, and a hash of it all."""
    text = to_json(value)
    if len(text) <= LONGEST_VALUE:
        return text
    digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
    return f"{text[: LONGEST_VALUE - len(digest)]} {digest}"


@dataclass(frozen=True)
class Use:
    """How much of a limit is used."""

    #: What the jobs count under: "site|site1".
    key: str
    #: "running=5", as ``set_limits`` was given it; empty: it holds no longer.
    rule: str
    running: int
    #: Began within the time of its rate.
    begun: int
    waiting: int


class Limits(BenchRedis):
    """Rules outlive workers; a change is in force for the next job that begins."""

    @reachable
    def set_limits(self, rules: Mapping[str, str]) -> bool:
        """From now on these rules hold, and no others; whether that is a change."""
        key = self._key("limits")
        if self.redis.hgetall(key) == rules:
            return False
        with self.redis.pipeline() as pipe:
            pipe.delete(key)
            if rules:
                pipe.hset(key, mapping=dict(rules))
            pipe.execute()
        return True

    @reachable
    def limits(self) -> dict[str, str]:
        """The rules that hold."""
        return dict(self.redis.hgetall(self._key("limits")))

    @reachable
    def limits_in_use(self, most: int = SEEN) -> list[Use]:
        """How much is used under each key, the newest first."""
        keys, found = self.redis.zrevrange(self._key(f"{OF_LIMITS}seen"), 0, most - 1), list[Use]()
        for start in range(0, len(keys), STEP):
            parts = self._script(STATE)(args=[self._prefix, *keys[start : start + STEP]])
            found += (Use(*one) for one in zip(*[iter(parts)] * 5, strict=True))
        return found

    @reachable
    def wait_for_room(self, seconds: float) -> None:
        """Return when a limit has room again for jobs that wait, or when so many are over."""
        try:
            self.redis.blpop([self._key(BELL)], seconds)
        except redis.ResponseError:  # before Redis 6 it takes whole seconds; or it refuses
            Event().wait(seconds)

    @reachable
    def waits_for_room(self, message: Message) -> bool:
        """Whether a limit has no room for it."""
        key = self._key("limited", message.queue)
        return self.redis.zscore(key, message.id) is not None

    @reachable
    def let_go_of_limited(self, queues: Iterable[str]) -> int:
        """Have all jobs that were refused wait for their time instead, which has come; how many."""
        gone = 0
        for queue in queues:
            keys = [self._key("limited", queue), self._key("retrying", queue)]
            while moved := self._script(LET_GO)(keys=keys, args=[STEP]):
                gone += moved
        return gone
