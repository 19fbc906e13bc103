"""The timetable's changes of Redis, each one script.

Whoever has a key in that database may have written anything: what is of another kind than ours is
made anew, as all of it is derived, and nothing of it ends a script in its middle.
"""

from __future__ import annotations

RIGHT = """
local wrong = {}
-- Deletes a key of another kind than it must be of.
local function right(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', key)
    wrong[#wrong + 1] = key
  end
end
"""

# KEYS lock, schedule, the last look · ARGV token, milliseconds of the lock, the token's own clock,
#      how many at most, the entries' prefix, now ('': by Redis's clock)
# gives {leads, is new, now, when the last look was, when the next one is due, keys of another kind,
#      keys taken out, then key, definition, due time, the one queued last, epoch of each}
LOOK = RIGHT + """
right(KEYS[1], 'string')
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  -- Taken while Redis's clock was ahead: whoever lives takes it again in time.
  if redis.call('PTTL', KEYS[1]) > 2 * ARGV[2] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return {0}
end
right(KEYS[2], 'zset')
right(KEYS[3], 'hash')
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local now = ARGV[6]
if now == '' then
  local time = redis.call('TIME')
  now = string.format('%s.%06d', time[1], time[2])
end
local last = redis.call('HGET', KEYS[3], 'at')
redis.call('HSET', KEYS[3], 'token', ARGV[1], 'at', now, 'clock', ARGV[3])
local coming = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local taken = {}
local found = {1, holder and 0 or 1, now, last or '', coming[2] or '', wrong, taken}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[4])) do
  local values = redis.pcall('HMGET', key, 'definition', 'due', 'queued', 'epoch')
  local site, name = string.match(string.sub(key, #ARGV[5] + 1), '^([^:]+):(.*)$')
  local due = not values.err and tonumber(values[2] or '')
  -- What no site knows as its own nobody would ever take out again.
  local known = due and values[1] and site and string.sub(key, 1, #ARGV[5]) == ARGV[5]
    and redis.pcall('SISMEMBER', ARGV[5] .. ':site:' .. site, name) == 1
  if not known then
    redis.call('ZREM', KEYS[2], key)
    taken[#taken + 1] = key
  else
    for _, value in ipairs({key, values[1], values[2], values[3] or '', values[4] or ''}) do
      found[#found + 1] = value
    end
  end
end
return found
"""

# KEYS schedule · ARGV for each its key, and the definition that cannot be read; one that was
#      written anew meanwhile stays
TAKE_OUT = """
for n = 1, #ARGV, 2 do
  if redis.pcall('HGET', ARGV[n], 'definition') == ARGV[n + 1] then
    redis.call('ZREM', KEYS[1], ARGV[n])
  end
end
"""

# KEYS schedule · ARGV for each entry its key, the due time that it had, the next one, when to look
#      at it again, RedBeat's meta, the due time queued last ('': as it is); one that was changed
#      meanwhile stays as it is
MOVE = """
for n = 1, #ARGV, 6 do
  local key, was, due, score, meta, queued = unpack(ARGV, n, n + 5)
  if redis.pcall('HGET', key, 'due') == was then
    redis.call('HSET', key, 'due', due, 'meta', meta)
    if queued ~= '' then redis.call('HSET', key, 'queued', queued) end
    redis.call('ZADD', KEYS[1], 'XX', score, key)
  end
end
"""

# KEYS ticket; gives its number as a text, which may be any length
TICKET = """
if type(redis.pcall('INCR', KEYS[1])) == 'table' then
  redis.call('DEL', KEYS[1])
  redis.call('INCR', KEYS[1])
end
return redis.call('GET', KEYS[1])
"""

# KEYS schedule, the site's names, ticket, the site's prefix, the sites · ARGV ticket, the site, how
#      many names to remove and these names, then for each entry to put its name, definition, the
#      due time that it must have ('': any), the new one, the one queued last ('': none), epoch,
#      its record's last execution ('': none)
# gives 0 if the ticket is old
REPLACE = RIGHT + """
if redis.pcall('GET', KEYS[3]) ~= ARGV[1] then return 0 end
right(KEYS[1], 'zset')
right(KEYS[2], 'set')
right(KEYS[5], 'set')
local first = 4 + ARGV[3]
for n = 4, first - 1 do
  redis.call('ZREM', KEYS[1], KEYS[4] .. ARGV[n])
  redis.call('DEL', KEYS[4] .. ARGV[n])
  redis.call('SREM', KEYS[2], ARGV[n])
end
for n = first, #ARGV, 7 do
  local name, definition, was, due, queued, epoch, last = unpack(ARGV, n, n + 6)
  local key = KEYS[4] .. name
  right(key, 'hash')
  redis.call('SADD', KEYS[2], name)
  if was == '' or redis.call('HGET', key, 'due') == was then
    redis.call('HSET', key, 'definition', definition, 'due', due, 'epoch', epoch, 'last', last,
      'queued', queued)
    redis.call('ZADD', KEYS[1], due, key)
  end
end
redis.call(redis.call('EXISTS', KEYS[2]) == 1 and 'SADD' or 'SREM', KEYS[5], ARGV[2])
return 1
"""

# KEYS lock · ARGV token
LET_GO = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"
