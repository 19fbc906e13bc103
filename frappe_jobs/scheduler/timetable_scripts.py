"""The timetable's changes of Redis, each one script.

Others may have written anything under our keys: a key of another type is deleted, as all is made
anew from the records, and no script fails in its middle.
"""

from __future__ import annotations

RIGHT = """
local wrong = {}
-- deletes a key that is not of that type
local function right(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', key)
    wrong[#wrong + 1] = key
  end
end
"""

# seen: the last look; milliseconds: of the lock; clock: the token's own; now: '': by Redis's clock
# gives {leads, is new, now, time of the last look, when the next is due, keys of another type, keys
#      taken out, then of each due entry: key, definition, due time, due time queued last, epoch}
LOOK = RIGHT + """
local lock, schedule, seen = unpack(KEYS)
local token, milliseconds, clock, limit, prefix, now = unpack(ARGV)
right(lock, 'string')
local holder = redis.call('GET', lock)
if holder and holder ~= token then
  -- taken while Redis's clock was ahead; a holder that lives renews it in time
  if redis.call('PTTL', lock) > 2 * milliseconds then
    redis.call('PEXPIRE', lock, milliseconds)
  end
  return {0}
end
right(schedule, 'zset')
right(seen, 'hash')
redis.call('SET', lock, token, 'PX', milliseconds)
if now == '' then
  local time = redis.call('TIME')
  now = string.format('%s.%06d', time[1], time[2])
end
local last = redis.call('HGET', seen, 'at')
redis.call('HSET', seen, 'token', token, 'at', now, 'clock', clock)
local coming =
  redis.call('ZRANGEBYSCORE', schedule, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local taken = {}
local found = {1, holder and 0 or 1, now, last or '', coming[2] or '', wrong, taken}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', schedule, '-inf', now, 'LIMIT', 0, limit)) do
  local values = redis.pcall('HMGET', key, 'definition', 'due', 'queued', 'epoch')
  local site, name = string.match(string.sub(key, #prefix + 1), '^([^:]+):(.*)$')
  local due = not values.err and tonumber(values[2] or '')
  -- an entry that no site knows as its own would never be taken out
  local known = due and values[1] and site and string.sub(key, 1, #prefix) == prefix
    and redis.pcall('SISMEMBER', prefix .. ':site:' .. site, name) == 1
  if not known then
    redis.call('ZREM', schedule, key)
    taken[#taken + 1] = key
  else
    for _, value in ipairs({key, values[1], values[2], values[3] or '', values[4] or ''}) do
      found[#found + 1] = value
    end
  end
end
return found
"""

# definition: that which could not be read; an entry that was written anew meanwhile stays
TAKE_OUT = """
local schedule = KEYS[1]
for n = 1, #ARGV, 2 do
  local key, definition = unpack(ARGV, n, n + 1)
  if redis.pcall('HGET', key, 'definition') == definition then
    redis.call('ZREM', schedule, key)
  end
end
"""

# was, due: its due time until now, and the next one; score: when to look at it again; meta:
# RedBeat's; queued: the due time queued last ('': as it is); an entry that was changed meanwhile
# stays as it is
MOVE = """
local schedule = KEYS[1]
for n = 1, #ARGV, 6 do
  local key, was, due, score, meta, queued = unpack(ARGV, n, n + 5)
  if redis.pcall('HGET', key, 'due') == was then
    redis.call('HSET', key, 'due', due, 'meta', meta)
    if queued ~= '' then redis.call('HSET', key, 'queued', queued) end
    redis.call('ZADD', schedule, 'XX', score, key)
  end
end
"""

# gives the ticket's number as a text, however long it is
TICKET = """
local ticket = KEYS[1]
if type(redis.pcall('INCR', ticket)) == 'table' then
  redis.call('DEL', ticket)
  redis.call('INCR', ticket)
end
return redis.call('GET', ticket)
"""

# names: of the site's entries; prefix: of their keys; removed: how many names to remove come next,
# and after them what to put: was: the due time that it must have ('': any); queued: the due time
# queued last ('': none); last: its record's last execution ('': none)
# gives 0 if another process has a later ticket
REPLACE = RIGHT + """
local schedule, names, ticket, prefix, sites = unpack(KEYS)
local number, site, removed = unpack(ARGV, 1, 3)
if redis.pcall('GET', ticket) ~= number then return 0 end
right(schedule, 'zset')
right(names, 'set')
right(sites, 'set')
local first = 4 + removed
for n = 4, first - 1 do
  redis.call('ZREM', schedule, prefix .. ARGV[n])
  redis.call('DEL', prefix .. ARGV[n])
  redis.call('SREM', names, ARGV[n])
end
for n = first, #ARGV, 7 do
  local name, definition, was, due, queued, epoch, last = unpack(ARGV, n, n + 6)
  local key = prefix .. name
  right(key, 'hash')
  redis.call('SADD', names, name)
  if was == '' or redis.call('HGET', key, 'due') == was then
    redis.call('HSET', key, 'definition', definition, 'due', due, 'epoch', epoch, 'last', last,
      'queued', queued)
    redis.call('ZADD', schedule, due, key)
  end
end
redis.call(redis.call('EXISTS', names) == 1 and 'SADD' or 'SREM', sites, site)
return 1
"""

LET_GO = """
local lock, token = KEYS[1], ARGV[1]
if redis.pcall('GET', lock) == token then return redis.call('DEL', lock) end
"""
