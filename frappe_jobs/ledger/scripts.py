"""The ledger's changes of Redis, each one script: one round trip, and whole or not at all."""

from __future__ import annotations

# ARGV prefix, sendings as JSON: message id, job id, site, queue, enqueued_at, rank, whether it
#      claims its job's id: 0: no, -1: yes, more: yes, from a job that has waited for so many
#      seconds as well; the broker's list; the marker of its due time (''); then for each sending
#      its envelope and what to push to that list ('': nothing), which cost more inside of the
#      JSON; at last the time now
# gives for each 1, or 0 where its job's id is taken, or its due time has been queued
RECORD = """
local prefix, done = ARGV[1], {}
-- the id means its newest message: taken while that one waits or runs
local function is_taken(pointer, claim, site, at)
  local other = redis.call('GET', pointer)
  if not other then return false end
  local record = prefix .. 'record:' .. other
  local status, due = unpack(redis.call('HMGET', record, 'status', 'due'))
  if status ~= 'queued' then return status == 'started' end
  local since = due or redis.call('ZSCORE', prefix .. 'open:' .. site, other) or at
  if claim < 0 or at - since < claim then return true end
  redis.call('HSET', record, 'superseded', '1')
  return false
end
for n, one in ipairs(cjson.decode(ARGV[2])) do
  local id, job, site, queue, at, rank, claim, list, due = unpack(one)
  local envelope, raw = ARGV[2 * n + 1], ARGV[2 * n + 2]
  local record, pointer = prefix .. 'record:' .. id, prefix .. 'job:' .. site .. ':' .. job
  done[n] = 1
  if redis.call('EXISTS', record) == 1 then
    -- sent before; only the reply was lost
  elseif claim ~= 0 and is_taken(pointer, claim, site, at)
    or due ~= '' and not redis.call('SET', due, id, 'NX', 'EX', 86400) then
    done[n] = 0
  else
    redis.call('HSET', record, 'status', 'queued', 'envelope', envelope)
    redis.call('ZADD', prefix .. 'open:' .. site, at, id)
    redis.call('ZADD', prefix .. 'waiting:' .. queue, rank, id)
    -- a made id is the message's own, and needs no pointer to it
    if job ~= id then redis.call('SET', pointer, id) end
    if raw ~= '' then
      redis.call('LPUSH', list, raw)
    else
      redis.call('ZADD', prefix .. 'unsent', ARGV[#ARGV], id)
    end
  end
end
return done
"""

# KEYS record, waiting, lease, running, open
# ARGV message id, now, holder, milliseconds of the lease, starts in all while nothing ends,
#      the run: who asks again, as the reply was lost, has begun already; then what the envelope
#      of this message holds, and that of another one with its id does not
# gives {attempt, retries}; {0}: the job has ended, {-1}: there is no record,
#       {-2, milliseconds}: somebody's lease lives so long, {-3, starts}: enough of them,
#       {-4}: another job took its id, {-5}: the id is another message's
START = """
local status, superseded, run, starts, retries, envelope = unpack(redis.call('HMGET', KEYS[1],
  'status', 'superseded', 'run', 'starts', 'retries', 'envelope'))
if not status then return {-1} end
if status ~= 'queued' and status ~= 'started' then return {0} end
if not redis.call('ZSCORE', KEYS[5], ARGV[1]) then return {-5} end
for n = 7, #ARGV do
  if not string.find(envelope or '', ARGV[n], 1, true) then return {-5} end
end
if superseded then return {-4} end
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[3] then return {-2, redis.call('PTTL', KEYS[3])} end
if status == 'started' and run == ARGV[6] then
  redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
  return {tonumber(starts), tonumber(retries or '0')}
end
if status == 'started' then  -- the process that began with it is gone, and left no end
  local died = redis.call('HINCRBY', KEYS[1], 'died', 1)
  if died >= tonumber(ARGV[5]) then return {-3, died} end
else
  redis.call('HDEL', KEYS[1], 'died')
end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
starts = tonumber(starts or '0') + 1
redis.call('HSET', KEYS[1], 'status', 'started', 'started_at', ARGV[2], 'worker', ARGV[3],
  'run', ARGV[6], 'starts', starts)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
if starts > 1 then redis.call('HDEL', KEYS[1], 'progress', 'stage') end  -- it begins anew
return {starts, tonumber(retries or '0')}
"""

# KEYS lease, record · ARGV holder, milliseconds
# gives 1, or if it is somebody else's 0 where this holder has begun the job, and nobody since,
#       else -1
# What this holder has not begun, or has let go of, is not leased to it again.
RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])  -- which a Redis whose memory is full does as well
  return 1
end
local status, worker = unpack(redis.call('HMGET', KEYS[2], 'status', 'worker'))
if holder then return worker == ARGV[1] and 0 or -1 end
if not status or status == 'started' and worker == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
"""

# KEYS lease · ARGV holder
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"

# KEYS record, waiting, lease, running · ARGV message id, rank, holder
HAND_BACK = """
if redis.call('GET', KEYS[3]) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[3])
if redis.call('HGET', KEYS[1], 'status') ~= 'started' then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued')
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
"""

# KEYS record, waiting, lease, running
# ARGV message id, rank, the holder whose run it was ('': whoever), whether it counts as one of
#      the job's retries, then fields and values of the record; gives 0 if it runs no longer, or
#      elsewhere
RETRY = """
local status, worker = unpack(redis.call('HMGET', KEYS[1], 'status', 'worker'))
if status ~= 'started' or ARGV[3] ~= '' and ARGV[3] ~= worker then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', unpack(ARGV, 5))
redis.call('HINCRBY', KEYS[1], 'retries', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
"""

# KEYS record · ARGV the holder whose run it is ('': whoever), then fields and values
NOTE = """
local status, worker = unpack(redis.call('HMGET', KEYS[1], 'status', 'worker'))
if not status or ARGV[1] ~= '' and ARGV[1] ~= worker then return 0 end
return redis.call('HSET', KEYS[1], unpack(ARGV, 2))
"""

# KEYS record, open, waiting, ended, failed, pointer (the prefix: a made id), lease, running
# ARGV message id, now, status, seconds to keep, failed jobs to keep, only if queued, prefix,
#      Celery's key of the result ('': none), what goes there, seconds to keep it,
#      the hash of ends that tracked jobs' own records do not say yet ('': none), what goes there,
#      the holder whose run it was ('': whoever; the run of another one stays as it is), the call:
#      who asks again, as the reply was lost, has ended it; then fields and values of the record
# gives 1 if this call ended the job
END = """
local id, now, status, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local present, worker, call =
  unpack(redis.call('HMGET', KEYS[1], 'status', 'worker', 'ended_by'))
if present ~= 'queued' and present ~= 'started' then return call == ARGV[14] and 1 or 0 end
if present == 'started' and ARGV[6] == '1' then return 0 end
if ARGV[13] ~= '' and ARGV[13] ~= worker then return 0 end
redis.call('HSET', KEYS[1], 'status', status, 'ended_at', ARGV[2], 'ended_by', ARGV[14])
redis.call('HDEL', KEYS[1], 'reason', 'error', 'traceback')  -- of an attempt before
if #ARGV > 14 then redis.call('HSET', KEYS[1], unpack(ARGV, 15)) end
redis.call('EXPIRE', KEYS[1], ttl)
redis.call('DEL', KEYS[7])
redis.call('ZREM', KEYS[2], id)
redis.call('ZREM', present == 'queued' and KEYS[3] or KEYS[8], id)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
redis.call('ZADD', KEYS[4], now + ttl, id)
if status == 'failed' then
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - ttl)
  redis.call('ZADD', KEYS[5], now, id)
  local surplus = redis.call('ZCARD', KEYS[5]) - tonumber(ARGV[5])
  if surplus > 0 then
    local popped = redis.call('ZPOPMIN', KEYS[5], surplus)
    for i = 1, #popped, 2 do redis.call('DEL', ARGV[7] .. 'record:' .. popped[i]) end
  end
end
if KEYS[6] ~= ARGV[7] and redis.call('GET', KEYS[6]) == id then
  redis.call('EXPIRE', KEYS[6], ttl)
end
redis.call('PUBLISH', ARGV[7] .. 'ended:' .. id, status)
if ARGV[11] ~= '' then
  redis.call('HSET', ARGV[11], id, ARGV[12])
  redis.call('EXPIRE', ARGV[11], 2592000)
end
if ARGV[8] ~= '' then
  redis.call('SET', ARGV[8], ARGV[9], 'EX', ARGV[10])
  redis.call('PUBLISH', ARGV[8], ARGV[9])
end
return 1
"""
