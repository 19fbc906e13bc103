"""Redis: the sites' turns in a queue, and the scripts by which workers take from them.

kombu's lists stay a queue's inbox: everybody pushes there.  A worker's take files them, a bounded
portion at a time, into a list for each site, from which the sites are served in turn.  Beside the
list ``bench:short`` lie, while it has filed messages:

``bench:short:turns``, ``:ahead``   the sites that wait, ordinary and at-front jobs, by their pass
``bench:short:turn:<site>``, ``:front:<site>``   the site's messages, pushed left, taken right
``bench:short:resting``   sites that wait and are paused
``bench:short:clock``     the pass of the site that was served last
``bench:short:filed``     how many messages are filed
``bench:short:bell``      rung by whoever pushes: an idle worker waits for it

A site's pass grows with each of its jobs, by less if it has more weight; the lowest is served next,
so sites that wait get equal shares, whatever the length of their lists.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from frappe_jobs.ledger.pauses import IS_SITE_PAUSED
from frappe_jobs.ledger.scripts import RINGS
from frappe_jobs.message import Message, to_json

#: How many messages or sites a script looks at: Redis does nothing else meanwhile.
LOOKS = 50
#: How many messages are in a script's memory at a time.
PORTION = 10

COMMON = (
    f"""
local LOOKS, PORTION = {LOOKS}, {PORTION}
{IS_SITE_PAUSED}"""
    + """
local call, was_cut = redis.call, false
-- paused, weights: hashes of the bench; a field of paused is "queue", "queue|site" or "|site"
local is_any_paused = call('EXISTS', paused) == 1
local is_any_weighed = call('EXISTS', weights) == 1

local function is_paused(queue, site)
  return is_any_paused and is_site_paused(paused, queue, site)
end

local function cost(site)
  local weight = is_any_weighed and tonumber(call('HGET', weights, site) or '1') or 1
  return 1 / (weight > 0 and weight or 1)
end

-- our header is JSON, in which no text contains a bare quote; a message's body has none at all
local function site_of(raw)
  local _, start = string.find(raw, '"frappe_jobs":', 1, true)
  if start then _, start = string.find(raw, '"site": ?"', start) end
  local stop = start and string.find(raw, '["\\\\]', start + 1)
  while stop and string.sub(raw, stop, stop) ~= '"' do  -- a backslash, and what it is for
    stop = string.find(raw, '["\\\\]', stop + 2)
  end
  return stop and string.sub(raw, start + 1, stop - 1) or ''
end

-- a site begins to wait: behind the present round, so that it cannot come back too soon
local function join(base, kind, site)
  if call('ZSCORE', base .. ':' .. kind, site) then return end
  local pass = call('ZSCORE', base .. (kind == 'ahead' and ':turns' or ':ahead'), site)
    or tonumber(call('GET', base .. ':clock') or '0') + cost(site)
  call('ZADD', base .. ':' .. kind, pass, site)
end

local function leave_if_empty(base)
  if call('EXISTS', base .. ':turns', base .. ':ahead', base .. ':resting') == 0 then
    call('DEL', base .. ':clock', base .. ':filed')
  end
end

-- what was put back, as its worker died or may not begin it, goes before the others of its site
local function is_put_back(raw)
  return string.find(raw, '"redelivered": true', 1, true)
end

-- a portion of one list, in runs of messages of one site
local function file_portion(base, queue, kind, found)
  local start, site, is_back = 1, site_of(found[1]), is_put_back(found[1])
  for n = 2, #found + 1 do
    local other, is_next_back
    if found[n] then other, is_next_back = site_of(found[n]), is_put_back(found[n]) end
    if other ~= site or is_back or is_next_back then
      call(is_back and 'RPUSH' or 'LPUSH', base .. (kind == 'ahead' and ':front:' or ':turn:')
        .. site, unpack(found, start, n - 1))
      if is_paused(queue, site) then
        call('ZADD', base .. ':resting', 0, site)
      else
        join(base, kind, site)
      end
      start, site, is_back = n, other, is_next_back
    end
  end
end

-- at most so many; gives how many
local function file(base, queue, steps, limit)
  local lists = {}
  for n, step in ipairs(steps) do lists[n] = base .. step end
  if limit <= 0 or call('EXISTS', unpack(lists)) == 0 then return 0 end
  local filed = 0
  for n, list in ipairs(lists) do
    repeat
      local portion = math.min(PORTION, limit - filed)
      local found = portion > 0 and call('RPOP', list, portion) or {}
      if #found > 0 then file_portion(base, queue, n == 1 and 'ahead' or 'turns', found) end
      filed = filed + #found
    until #found < PORTION
  end
  if filed > 0 then call('INCRBY', base .. ':filed', filed) end
  return filed
end

local function rest(base, site)
  call('ZREM', base .. ':turns', site)
  call('ZREM', base .. ':ahead', site)
  call('ZADD', base .. ':resting', 0, site)
end

local function rejoin(base, site)
  for kind, list in pairs({ahead = ':front:', turns = ':turn:'}) do
    if call('EXISTS', base .. list .. site) == 1 then join(base, kind, site) end
  end
end

-- resting sites that are paused no longer wait for their turns again
local function wake(base, queue, start)
  local sites, still = call('ZRANGE', base .. ':resting', start, start + LOOKS - 1), 0
  for _, site in ipairs(sites) do
    if is_paused(queue, site) then
      still = still + 1
    else
      call('ZREM', base .. ':resting', site)
      rejoin(base, site)
    end
  end
  if #sites > still then
    leave_if_empty(base)
    call('LPUSH', base .. ':bell', '')
  end
  return #sites, still
end

-- the next message of a ring: its site, and what it has paid; at-front jobs of a site that has had
-- more than its share wait while another site has had less
local function serve(base, queue, kind)
  local ring = base .. ':' .. kind
  for _ = 1, LOOKS do
    local site, pass = unpack(call('ZRANGE', ring, 0, 0, 'WITHSCORES'))
    if not site then return leave_if_empty(base) end
    pass = tonumber(pass)
    if is_paused(queue, site) then
      rest(base, site)
    else
      if kind == 'ahead' then
        local others = call('ZRANGE', base .. ':turns', 0, 1, 'WITHSCORES')
        local at = others[1] == site and 3 or 1
        if others[at] and not is_paused(queue, others[at])
          and pass > tonumber(others[at + 1]) + cost(site) then return end
      end
      local list = base .. (kind == 'ahead' and ':front:' or ':turn:') .. site
      local raw = call('RPOP', list)
      local after = pass + cost(site)
      if call('EXISTS', list) == 1 then
        call('ZADD', ring, after, site)
      else
        call('ZREM', ring, site)
      end
      if raw then
        call('ZADD', base .. (kind == 'ahead' and ':turns' or ':ahead'), 'XX', after, site)
        if pass > tonumber(call('GET', base .. ':clock') or '0') then
          call('SET', base .. ':clock', pass)
        end
        call('DECR', base .. ':filed')
        leave_if_empty(base)
        return raw
      end
    end
  end
  was_cut = true
end
"""
)

# fair: for each queue 1 if its messages are filed, else 0
# names: as kombu knows the queues; they are looked into in this order, at-front jobs first
# acks: the tokens of what is done
# gives {place of the queue, message}, noted as held by the token; {}: nothing waits, {0}: more may
TAKE = (
    """
local unacked, index, paused, weights = unpack(KEYS, 1, 4)
local fair, now, token, acks, n_steps, n_queues = unpack(ARGV, 1, 6)
acks, n_steps, n_queues = tonumber(acks), tonumber(n_steps), tonumber(n_queues)
local steps = {unpack(ARGV, 7, 6 + n_steps)}
local names = {unpack(ARGV, 7 + n_steps, 6 + n_steps + n_queues)}
local first = 6 + n_steps + n_queues
if acks > 0 then
  redis.call('ZREM', index, unpack(ARGV, first + 1, first + acks))
  redis.call('HDEL', unacked, unpack(ARGV, first + 1, first + acks))
end
"""
    + COMMON
    + """
local bases, limit = {}, LOOKS
local function is_fair(n) return string.sub(fair, n, n) == '1' end
for n, name in ipairs(names) do
  if not (is_any_paused and call('HEXISTS', paused, name) == 1) then
    bases[n] = KEYS[4 + n]
    if is_fair(n) then limit = limit - file(bases[n], name, steps, limit) end
  end
end

local function hold(n, raw)
  -- kombu's own form; its exchange is Redis's default, which needs no binding
  call('HSET', unacked, token, '[' .. raw .. ',"",' .. cjson.encode(names[n]) .. ']')
  call('ZADD', index, now, token)
  local base, places = bases[n], {}
  for _, place in ipairs(steps) do table.insert(places, base .. place) end
  if call('EXISTS', base .. ':turns', base .. ':ahead', unpack(places)) > 0
    and call('EXISTS', base .. ':bell') == 0 then
    call('LPUSH', base .. ':bell', '')  -- for the next idle worker
  end
  return {n, raw}
end

local kinds = {'ahead', 'turns'}
for step = 1, math.max(2, n_steps) do
  for n = 1, n_queues do
    local base = bases[n]
    local raw = base and kinds[step] and serve(base, names[n], kinds[step])
    if base and not raw and not is_fair(n) and steps[step] then
      raw = call('RPOP', base .. steps[step])
    end
    if raw then return hold(n, raw) end
  end
end
if limit <= 0 or was_cut then return {0} end
for n = 1, n_queues do call('DEL', KEYS[4 + n] .. ':bell') end
return {}
"""
)

# offset: where among the resting sites it begins to look; gives how many were filed
FILE = (
    """
local paused, weights, base = unpack(KEYS)
"""
    + COMMON
    + """
local name, offset = unpack(ARGV, 1, 2)
wake(base, name, offset % math.max(1, call('ZCARD', base .. ':resting')))
return file(base, name, {unpack(ARGV, 3)}, LOOKS)
"""
)

# gives {how many messages were put back into the inbox, 1: there are more}; they lie there before
# what it has
FILE_BACK = """
local base = KEYS[1]
local front, behind = unpack(ARGV)
local moved = 0
for _, ring in ipairs({'ahead', 'turns', 'resting'}) do
  for _, site in ipairs(redis.call('ZRANGE', base .. ':' .. ring, 0, 49)) do
    for list, inbox in pairs({[base .. ':turn:' .. site] = base .. behind,
                              [base .. ':front:' .. site] = base .. front}) do
      while moved < 50 do
        local raw = redis.call('LPOP', list)
        if not raw then break end
        redis.call('RPUSH', inbox, raw)
        moved = moved + 1
      end
    end
    if redis.call('EXISTS', base .. ':turn:' .. site, base .. ':front:' .. site) == 0 then
      for _, one in ipairs({'ahead', 'turns', 'resting'}) do
        redis.call('ZREM', base .. ':' .. one, site)
      end
    end
    if moved >= 50 then break end
  end
end
if moved > 0 then redis.call('DECRBY', base .. ':filed', moved) end
if redis.call('EXISTS', base .. ':turns', base .. ':ahead', base .. ':resting') == 1 then
  return {moved, 1}
end
redis.call('DEL', base .. ':clock', base .. ':filed', base .. ':bell')
return {moved, 0}
"""

# gives how many messages of resting sites wait
RESTING = """
local base, count = KEYS[1], 0
for _, site in ipairs(redis.call('ZRANGE', base .. ':resting', 0, -1)) do
  count = count + redis.call('LLEN', base .. ':turn:' .. site)
    + redis.call('LLEN', base .. ':front:' .. site)
end
return count
"""

# gives how many of the resting sites from start on were looked at, and how many of them rest on
WAKE = (
    """
local paused, weights, base = unpack(KEYS)
"""
    + COMMON
    + """
return {wake(base, unpack(ARGV))}
"""
)

# a site whose messages wait, and that no ring knows, as somebody or an eviction has removed that
HEAL = (
    """
local paused, weights, base = unpack(KEYS)
"""
    + COMMON
    + """
local site = ARGV[1]
if not call('ZSCORE', base .. ':resting', site) then rejoin(base, site) end
"""
)


class Turns:
    """What a bench's workers and whoever counts jobs do with the turns in its queues."""

    def __init__(self, client: Any, prefix: str, steps: Sequence[str], ordinary: str) -> None:
        self._client, self._steps, self._ordinary = client, steps, ordinary
        self.paused_key, self.weights_key = f"{prefix}paused", f"{prefix}weights"
        scripts = map(client.register_script, (FILE, FILE_BACK, WAKE, RESTING, HEAL))
        self._file, self._file_back, self._wake, self._resting, self._heal = scripts

    def file(self, base: str, name: str) -> None:
        """File all that lies in a queue's inbox."""
        keys = [self.paused_key, self.weights_key, base]
        offset = random.randrange(1_000_000)  # a resting site that is paused no more is met soon
        while int(self._file(keys=keys, args=[name, offset, *self._steps])) == LOOKS:
            pass

    def file_back(self, base: str) -> int:
        """Put all that is filed back into the inbox, from where any worker takes it."""
        moved, is_more = 0, True
        while is_more:
            step, is_more = self._file_back(keys=[base], args=[self._steps[0], self._ordinary])
            moved += step
        return moved

    def wake(self, base: str, name: str) -> None:
        """Have a queue's resting sites wait for their turns again, unless they are still paused."""
        keys, start = [self.paused_key, self.weights_key, base], 0
        while True:
            looked, still = self._wake(keys=keys, args=[name, start])
            start += still
            if looked < LOOKS:
                return

    def resting(self, base: str) -> int:
        """How many messages of a queue wait for the end of their sites' pause."""
        return int(self._resting(keys=[base]))

    def depth(self, base: str) -> int:
        """How many messages wait, in the inbox and filed."""
        with self._client.pipeline(transaction=False) as pipe:
            for step in self._steps:
                pipe.llen(base + step)
            pipe.get(f"{base}:filed")
            *waiting, filed = pipe.execute()
        return int(sum(waiting)) + max(0, int(filed or 0))

    def ring(self, bases: Iterable[str]) -> None:
        """Wake a worker that waits for these queues."""
        with self._client.pipeline(transaction=False) as pipe:
            for base in bases:
                pipe.lpush(f"{base}:bell", "")
                pipe.ltrim(f"{base}:bell", 0, RINGS - 1)
            pipe.execute()

    def list_of(self, base: str, message: Message) -> str:
        """The list in which the message waits once it is filed: its site as JSON spells it."""
        kind = "front" if message.at_front else "turn"
        return f"{base}:{kind}:{to_json(message.site)[1:-1]}"

    def heal(self, base: str, site: str) -> None:
        """Have a site take its turns, where its messages wait and no ring knows of it."""
        keys = [self.paused_key, self.weights_key, base]
        self._heal(keys=keys, args=[to_json(site)[1:-1]])

    def keys(self, base: str) -> Iterator[str]:
        """All keys of a queue's turns."""
        for ring in ("turns", "ahead", "resting"):
            for site in self._client.zrange(f"{base}:{ring}", 0, -1):
                yield f"{base}:turn:{site.decode()}"
                yield f"{base}:front:{site.decode()}"
            yield f"{base}:{ring}"
        yield from (f"{base}:{key}" for key in ("clock", "filed", "bell"))
