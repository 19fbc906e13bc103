"""The ledger's changes of Redis, each one script: one round trip, and whole or not at all.

A mark, ``-- counted: …``, says where ``ledger/counting.py`` counts what happens, if it is wanted.
"""

from __future__ import annotations

from frappe_jobs.ledger.clock import CLOCK
from frappe_jobs.ledger.keys import JobKeys
from frappe_jobs.ledger.limits import ENTER_LIMITS, LEAVE_LIMITS, LIMITS_OF
from frappe_jobs.ledger.pauses import IS_SITE_PAUSED

#: Gives a job's keys their Python names as locals.
OF_JOB = f"""
local {', '.join(JobKeys._fields)} = unpack(KEYS)
local prefix = string.sub(running, 1, -#'running' - 1)
"""

#: The most rings that a bell keeps: each wakes one idle worker, who wakes the next.
RINGS = 16

#: Pushes a message to the broker's list; ``ring`` then rings for the workers that wait there.  If
#: there is nothing to push, the message is noted as unsent, for the caller to publish.  Who that is
#: stands in its record: somebody who sent the job's message before may be about to note that.
PUSH = f"""
local bells = {{}}
local function push(prefix, id, now, sender, list, raw, bell)
  if raw == '' then
    redis.call('ZADD', prefix .. 'unsent', now, id)
    redis.call('HSET', prefix .. 'record:' .. id, 'sender', sender)
  else
    redis.call('LPUSH', list, raw)
    bells[bell] = (bells[bell] or 0) + 1
  end
end
local function ring()
  for bell, times in pairs(bells) do
    for _ = 1, math.min(times, {RINGS}) do
      if redis.call('LPUSH', bell, '') > {RINGS} then redis.call('RPOP', bell) end
    end
  end
end
"""

#: Adds a line of JSON to what is known of the attempts before; of those so many are kept.
NOTE_ATTEMPT = """
local function note_attempt(record, ended_at, kind, reason)
  local attempt, worker, started_at, lines = unpack(redis.call('HMGET', record, 'attempt', 'worker',
    'started_at', 'attempts'))
  local line = cjson.encode({attempt = tonumber(attempt), worker = worker or '', error = kind,
    reason = reason, started_at = tonumber(started_at), ended_at = ended_at})
  lines = lines and lines .. '\\n' .. line or line
  local _, ends = string.gsub(lines, '\\n', '')
  if ends >= 20 then lines = string.match(lines, '\\n(.*)') end
  redis.call('HSET', record, 'attempts', lines)
end
"""

# list: the broker's; bell: rung for the workers that wait for the list
# how: what few have: rank: what it is sorted by in its queue, else at; claim: it claims its job's
#      id, which one that has waited for so many seconds loses (-1: never); due: the marker of its
#      due time; anew: its record was lost; hour, tombstone: where its tombstone would stand, and
#      the name of it (else it is in no outbox); later: when it is due, else now; replaces: it
#      takes the place of its id's job, which may run: then it waits behind that; expires: when it
#      is too late to begin it
# After the sendings the envelope of each and what to push to that list ('': nothing), which would
# cost more inside the JSON; at last the time now, the seconds for which a tombstone stands, and who
# sends them.
# gives for each 1, or 0 if its job's id is taken, its due time has been queued, or it has a
#       tombstone; 2 if it was recorded before; 3 if it waits for its time
RECORD = PUSH + CLOCK + """
local prefix, sendings, done = ARGV[1], cjson.decode(ARGV[2]), {}
local now, ttl, sender = unpack(ARGV, #ARGV - 2)
-- the id means its newest message: taken while that message waits or runs
local function is_taken(pointer, claim, site, at)
  local other = redis.call('GET', pointer)
  if not other then return false end
  local record = prefix .. 'record:' .. other
  local status, due, expires, goes_on = unpack(redis.call('HMGET', record, 'status', 'due',
    'expires', 'goes_on'))
  if status ~= 'queued' then return status == 'started' end
  local since = due or redis.call('ZSCORE', prefix .. 'open:' .. site, other) or at
  local is_over = expires and not goes_on and clock() >= tonumber(expires)
  if not is_over and (claim < 0 or at - since < claim) then return true end
  redis.call('HSET', record, 'superseded', '1')
  return false
end
local function take_over(pointer, record)
  local key = prefix .. 'record:' .. (redis.call('GET', pointer) or '')
  local status, behind = unpack(redis.call('HMGET', key, 'status', 'behind'))
  if status ~= 'queued' and status ~= 'started' then return end
  redis.call('HSET', key, 'superseded', '1')
  if status == 'started' then behind = key end
  if behind then redis.call('HSET', record, 'behind', behind) end
end
local function is_waiting(queue, id)
  return redis.call('ZSCORE', prefix .. 'delayed:' .. queue, id)
    or redis.call('ZSCORE', prefix .. 'retrying:' .. queue, id)
end
local function is_buried(hour, name)
  return redis.call('SISMEMBER', prefix .. 'tombstones:ended:' .. hour, name) == 1
    or redis.call('SISMEMBER', prefix .. 'tombstones:cancelled:' .. hour, name) == 1
end
local function bury(hour, name)
  redis.call('SADD', prefix .. 'tombstones:cancelled:' .. hour, name)
  redis.call('EXPIRE', prefix .. 'tombstones:cancelled:' .. hour, ttl)
end
for n, sending in ipairs(sendings) do
  local id, job, site, queue, at, list, bell, how = unpack(sending)
  how = how or {}
  local envelope, raw = ARGV[2 * n + 1], ARGV[2 * n + 2]
  local record, pointer = prefix .. 'record:' .. id, prefix .. 'job:' .. site .. ':' .. job
  done[n] = 1
  if redis.call('EXISTS', record) == 1 then
    -- only the reply was lost, or somebody has sent it from the outbox
    done[n] = is_waiting(queue, id) and 3 or 2
  elseif how.tombstone and is_buried(how.hour, how.tombstone) then
    done[n] = 0
  elseif how.claim and is_taken(pointer, how.claim, site, at)
    or how.due and not redis.call('SET', how.due, id, 'NX', 'EX', 86400) then
    done[n] = 0
    -- a worker that finds it in the outbox must not send it when the id is free again
    if how.tombstone then bury(how.hour, how.tombstone) end
  else
    redis.call('HSET', record, 'status', 'queued', 'envelope', envelope)
    if how.anew then redis.call('HSET', record, 'anew', '1') end
    if how.expires then redis.call('HSET', record, 'expires', how.expires) end
    redis.call('ZADD', prefix .. 'open:' .. site, at, id)
    if how.replaces then take_over(pointer, record) end
    -- a generated id is the message's own, and needs no pointer
    if job ~= id then redis.call('SET', pointer, id) end
    if how.later then
      done[n] = 3
      redis.call('HSET', record, 'due', how.later)
      redis.call('ZADD', prefix .. 'delayed:' .. queue, how.later, id)
    else
      redis.call('ZADD', prefix .. 'waiting:' .. queue, how.rank or at, id)
      push(prefix, id, now, sender, list, raw, bell)
    end
    -- counted: recorded
  end
end
ring()
-- counted: done
return done
"""

# RECORD for a message that is sent at once, with an id of its own and nothing else asked for, as
# most are: it takes two thirds of the time.  Gives 0, and does nothing, where there is a record.
RECORD_PLAIN = f"""
local prefix, id, site, queue, at, rank, envelope, list, raw, bell = unpack(ARGV)
local record = prefix .. 'record:' .. id
if redis.call('EXISTS', record) == 1 then return 0 end
redis.call('HSET', record, 'status', 'queued', 'envelope', envelope)
redis.call('ZADD', prefix .. 'open:' .. site, at, id)
redis.call('ZADD', prefix .. 'waiting:' .. queue, rank, id)
redis.call('LPUSH', list, raw)
if redis.call('LPUSH', bell, '') > {RINGS} then redis.call('RPOP', bell) end
return 1
"""

# milliseconds: of the lease; max_starts: without any end; run: the same where it is asked again, as
# the reply was lost; expires: when it is too late to begin it ('': never); method, concurrency_key
# ('': none), and one of its arguments, name ('': none) and value: what limits count by; after them
# texts that only the envelope of the true message has
# gives {attempt, retries, 1: its record was lost}; {0}: the job has ended, {-1}: no record,
#       {-2, milliseconds}: what is left of another's lease, {-3, processes} that died of it,
#       {-4}: another job took its id, {-5}: the id is another message's, {-6}: it waits for its
#       time, {-7, milliseconds}: it waits behind another job of its id; {-2} and {-7} put it back;
#       {-8, key}: it waits until that limit has room; {-9, name}: a limit counts by that argument;
#       {-10}: it has expired; {-11}: its worker holds its message no longer; {-12}: it was taken
#       ahead, and may not go before what waits by now
# token: by which its worker holds its message ('': not by one), in the first key after the job's;
# ahead_in: the name of the queue on the broker if it was taken ahead, else ''; escaped: its site's
# name as in JSON; then come what is paused, and where the queue's at-front jobs wait
# One that goes on, as an earlier run of it may have done a part of it, does not expire.
START = OF_JOB + CLOCK + NOTE_ATTEMPT + """
local id, now, holder, milliseconds, max_starts, run, expires, method, concurrency_key, name,
  value, token, ahead_in, escaped = unpack(ARGV, 1, 14)
local status, superseded, begun, attempt, retries, envelope, anew, due, behind, was_limited, goes_on
  = unpack(redis.call('HMGET', record, 'status', 'superseded', 'run', 'attempt', 'retries',
  'envelope', 'anew', 'due', 'behind', 'limited', 'goes_on'))
if not status then return {-1} end
if status ~= 'queued' and status ~= 'started' then
  -- counted: ended
  return {0}
end
if token ~= '' and begun ~= run then
""" + f"""
  local held, paused = unpack(KEYS, {len(JobKeys._fields) + 1})
  if redis.call('HEXISTS', held, token) == 0 then return {{-11}} end
  if ahead_in ~= '' then
    local at_front = {{unpack(KEYS, {len(JobKeys._fields) + 3})}}
    if redis.call('EXISTS', unpack(at_front)) > 0 then return {{-12}} end
""" + IS_SITE_PAUSED + """
    if redis.call('EXISTS', paused) == 1 and (redis.call('HEXISTS', paused, ahead_in) == 1
      or is_site_paused(paused, ahead_in, escaped)) then return {-12} end
  end
end
local enqueued_at = redis.call('ZSCORE', open, id)
if not enqueued_at then return {-5} end
for n = 15, #ARGV do
  if not string.find(envelope or '', ARGV[n], 1, true) then return {-5} end
end
if status == 'queued' then
  if expires ~= '' and not goes_on and clock() >= tonumber(expires) then return {-10} end
  if superseded then return {-4} end
  -- a message that came twice, or too early: another one comes in time
  if due and (redis.call('ZSCORE', delayed, id) or redis.call('ZSCORE', retrying, id)) then
    return {-6}
  end
  local before = behind and redis.call('HMGET', behind, 'status', 'started_at')
  if before and before[1] == 'started' then
    local at = clock()
    local wait = math.max(1, math.min(30, (at - (before[2] or at)) / 10))
    redis.call('HSET', record, 'due', at + wait)
    redis.call('ZADD', retrying, at + wait, id)
    redis.call('ZREM', waiting, id)
    return {-7, math.ceil(wait * 1000)}
  end
end
local other, left = redis.call('GET', lease), nil
if other and other ~= holder then
  left = math.max(0, redis.call('PTTL', lease))
elseif not other and status == 'started' then
  -- After a failover to a server whose clock is ahead all leases seem to be over: one is when the
  -- workers' clocks say so as well.  What is further off is a worker's clock that is wrong.
  local worker, released, started_at, renewed_at = unpack(redis.call('HMGET', record, 'worker',
    'released', 'started_at', 'renewed_at'))
  local lasts = milliseconds + 1000 * (math.max(started_at or 0, renewed_at or 0) - now)
  if worker ~= holder and released ~= worker and lasts > 0 and lasts <= 2 * milliseconds then
    left = math.ceil(lasts)
  end
end
if left then
  redis.call('ZADD', retrying, clock() + left / 1000 + 1, id)
  -- counted: held
  return {-2, left}
end
if status == 'started' and begun == run then
  redis.call('SET', lease, holder, 'PX', milliseconds)
  return {tonumber(attempt), tonumber(retries or '0'), anew and 1 or 0}
end
if superseded then return {-4} end  -- its process is gone, and a later job does its work
local limits, queue = nil, string.sub(waiting, #prefix + #'waiting:' + 1)
if concurrency_key ~= '' or redis.call('EXISTS', prefix .. 'limits') == 1 then
""" + LIMITS_OF + """
  local site, argument = string.sub(open, #prefix + #'open:' + 1), nil
  limits, argument = limits_of(prefix, site, queue, method, concurrency_key, name, value)
  if not limits then return {-9, argument} end
end
if status == 'started' then  -- the process that began it is gone, and left no end
  -- counted: lost
  local died = redis.call('HINCRBY', record, 'died', 1)
  redis.call('HSET', record, 'goes_on', '1')
  note_attempt(record, clock(), '', 'its process died')
  if died >= tonumber(max_starts) then return {-3, died} end
elseif not was_limited then
  redis.call('HDEL', record, 'died')
end
if limits and #limits > 0 then
""" + ENTER_LIMITS + """
  local at = clock()
  local rank, until_at = redis.call('ZSCORE', waiting, id) or at, at + milliseconds / 1000
  local refused = enter_limits(prefix, limits, record, id, queue, rank, at, until_at)
  if refused then
    redis.call('ZREM', waiting, id)
    redis.call('ZREM', running, id)
    return {-8, refused}
  end
end
if was_limited then
  redis.call('ZREM', limited, id)
  redis.call('HDEL', record, 'limited', 'limited_since', 'limited_rank')
end
redis.call('SET', lease, holder, 'PX', milliseconds)
attempt = tonumber(attempt or '0') + 1
redis.call('HSET', record, 'status', 'started', 'started_at', now, 'worker', holder, 'run', run,
  'attempt', attempt)
redis.call('ZREM', waiting, id)
redis.call('ZADD', running, now, id)
-- counted: started
if attempt > 1 then redis.call('HDEL', record, 'progress', 'stage') end  -- it begins anew
return {attempt, tonumber(retries or '0'), anew and 1 or 0}
"""  # fmt: skip

# What processes died of is behind it, as far as this run is the newest.
WENT_ON = """
local record, run = KEYS[1], ARGV[1]
if redis.call('HGET', record, 'run') == run then return redis.call('HDEL', record, 'died') end
"""

# gives 1: renewed; for another's lease 0 if this holder was the last to begin the job, else -1
# What this holder has not begun, or has let go of, is not leased to it again.
RENEW = """
local lease, record = unpack(KEYS)
local holder, milliseconds, now = unpack(ARGV)
local other = redis.call('GET', lease)
if other == holder then
  redis.call('PEXPIRE', lease, milliseconds)
  -- a Redis whose memory is full does that, and refuses this
  if redis.call('EXISTS', record) == 1 then redis.pcall('HSET', record, 'renewed_at', now) end
  return 1
end
local status, worker = unpack(redis.call('HMGET', record, 'status', 'worker'))
if other then return worker == holder and 0 or -1 end
if not status or status == 'started' and worker == holder then
  redis.call('SET', lease, holder, 'PX', milliseconds)
  if status then redis.call('HSET', record, 'renewed_at', now) end
end
return 1
"""

RELEASE = """
local lease, record = unpack(KEYS)
local other, holder = redis.call('GET', lease), ARGV[1]
if other and other ~= holder then return 0 end
if redis.call('HGET', record, 'worker') == holder then
  redis.call('HSET', record, 'released', holder)
end
return redis.call('DEL', lease)
"""

HAND_BACK = OF_JOB + CLOCK + """
local id, rank, holder = unpack(ARGV)
if redis.call('GET', lease) ~= holder then return 0 end
redis.call('DEL', lease)
if redis.call('HGET', record, 'status') ~= 'started' then return 0 end
redis.call('HSET', record, 'status', 'queued', 'goes_on', '1')
redis.call('ZADD', waiting, rank, id)
redis.call('ZREM', running, id)
""" + LEAVE_LIMITS + """
leave_limits(prefix, record, id, clock())
return 1
"""  # fmt: skip

# holder: whose run it was ('': anybody's); counts: 1 if this is one of the job's retries, else 0;
# delay: seconds, by Redis's clock; kind, reason: why the attempt failed ('': it did not, or could
# not even begin); after them fields and values of the record; gives 0 if it runs no longer, or
# elsewhere
RETRY = OF_JOB + CLOCK + NOTE_ATTEMPT + """
local id, delay, holder, counts, kind, reason = unpack(ARGV, 1, 6)
local status, worker = unpack(redis.call('HMGET', record, 'status', 'worker'))
if status ~= 'started' or holder ~= '' and holder ~= worker then return 0 end
if reason ~= '' then note_attempt(record, clock(), kind, reason) end
local due = clock() + delay
redis.call('HSET', record, 'status', 'queued', 'due', due, unpack(ARGV, 7))
redis.call('HINCRBY', record, 'retries', counts)
redis.call('ZADD', retrying, due, id)
redis.call('DEL', lease)
redis.call('ZREM', running, id)
""" + LEAVE_LIMITS + """
leave_limits(prefix, record, id, clock())
-- counted: retried
return 1
"""  # fmt: skip

# holder: whose run it is ('': anybody's); after it fields and values
NOTE = """
local record, holder = KEYS[1], ARGV[1]
local status, worker = unpack(redis.call('HMGET', record, 'status', 'worker'))
if not status or holder ~= '' and holder ~= worker then return 0 end
return redis.call('HSET', record, unpack(ARGV, 2))
"""

# pointer: the prefix for a generated id; ttl: seconds to keep the record; result_key: Celery's ('':
# none); unwritten: the hash of ends that Background Tasks do not say yet ('': none), ending: what
# goes there; holder: whose run it was ('': anybody's; another's run stays as it is); call: the same
# where it is asked again, as the reply was lost; after them fields and values of the record
# gives 1 if this call ended the job
END = OF_JOB + """
local id, now, status, ttl, failed_limit, waiting_only, prefix, result_key, result, result_ttl,
  unwritten, ending, holder, call, tombstones, tombstone, tombstones_ttl = unpack(ARGV, 1, 17)
local present, worker, ended_by, begun, limits, was_limited = unpack(redis.call('HMGET', record,
  'status', 'worker', 'ended_by', 'started_at', 'limits', 'limited'))
if present ~= 'queued' and present ~= 'started' then return ended_by == call and 1 or 0 end
if present == 'started' and waiting_only == '1' then return 0 end
if holder ~= '' and holder ~= worker then return 0 end
-- counted: ended
redis.call('HSET', record, 'status', status, 'ended_at', now, 'ended_by', call)
redis.call('HDEL', record, 'reason', 'error', 'traceback')  -- an earlier attempt's
if #ARGV > 17 then redis.call('HSET', record, unpack(ARGV, 18)) end
redis.call('EXPIRE', record, ttl)
redis.call('DEL', lease)
redis.call('ZREM', open, id)
if present == 'queued' then
  for _, key in ipairs({waiting, delayed, retrying, limited}) do redis.call('ZREM', key, id) end
else
  redis.call('ZREM', running, id)
end
if limits or was_limited then
""" + CLOCK + LEAVE_LIMITS + """
leave_limits(prefix, record, id, clock())
end
redis.call('ZREMRANGEBYSCORE', ended, '-inf', now)
redis.call('ZADD', ended, now + ttl, id)
if status == 'failed' then
  redis.call('ZREMRANGEBYSCORE', failed, '-inf', now - ttl)
  redis.call('ZADD', failed, now, id)
  local surplus = redis.call('ZCARD', failed) - failed_limit
  if surplus > 0 then
    local popped = redis.call('ZPOPMIN', failed, surplus)
    for i = 1, #popped, 2 do redis.call('DEL', prefix .. 'record:' .. popped[i]) end
  end
end
if pointer ~= prefix and redis.call('GET', pointer) == id then
  redis.call('EXPIRE', pointer, ttl)
end
redis.call('SADD', tombstones, tombstone)
redis.call('EXPIRE', tombstones, tombstones_ttl)
redis.call('PUBLISH', prefix .. 'ended:' .. id, status)
if unwritten ~= '' then
  redis.call('HSET', unwritten, id, ending)
  redis.call('EXPIRE', unwritten, 2592000)
end
if result_key ~= '' then
  redis.call('SET', result_key, result, 'EX', result_ttl)
  redis.call('PUBLISH', result_key, result)
end
return 1
"""  # fmt: skip

# pointer: the prefix for a made id; index: what the job may be found by, between spaces; of a
# failed one its record says that itself; gives 1 if this call removed the record
FORGET = OF_JOB + """
local id, prefix, index = unpack(ARGV)
local status, indexed = unpack(redis.call('HMGET', record, 'status', 'indexed'))
if status == 'queued' or status == 'started' then return 0 end
redis.call('ZREM', ended, id)
redis.call('ZREM', failed, id)
if pointer ~= prefix and redis.call('GET', pointer) == id then redis.call('DEL', pointer) end
if status then
  for one in string.gmatch(indexed or index, '%S+') do
    redis.call('ZREM', prefix .. 'by:' .. one .. ':' .. status, id)
  end
end
return redis.call('DEL', record)
"""

# gives 1 if the job is the caller's to be sent once more: it has that end, and nobody has claimed
# it within so many seconds
CLAIM_AGAIN = """
local status, now, seconds = unpack(ARGV)
local present, again = unpack(redis.call('HMGET', KEYS[1], 'status', 'again'))
if present ~= status or again and now - again < tonumber(seconds) then return 0 end
redis.call('HSET', KEYS[1], 'again', now)
return 1
"""
