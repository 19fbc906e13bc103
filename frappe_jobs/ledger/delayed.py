"""Jobs that wait for their time: as they were enqueued, until a retry, or as they were put back.

Each queue has two sorted sets of ids by when they are due, by Redis's clock: ``delayed`` for jobs
that were enqueued for later, and ``retrying`` for those that a worker had.  A job stands in one of
them, or in ``waiting``, where its message is on the broker; so a message of a job that stands here
is one too many.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from frappe_jobs.errors import BadMessage
from frappe_jobs.ledger.clock import CLOCK
from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.jobs import Jobs
from frappe_jobs.ledger.keys import rank
from frappe_jobs.ledger.limits import SEND_FOR_ALL
from frappe_jobs.ledger.scripts import OF_JOB, PUSH
from frappe_jobs.message import Message, to_json

#: How many of each queue's sets become due in one step, and after how many bytes a step ends.
STEP, STEP_BYTES = 100, 2_000_000
#: Seconds after which one that this version cannot read is looked at again.
UNREADABLE = 30.0
#: Seconds after its due time at which a job should long have been sent.
OVERDUE = 60

# gives the seconds until the next one is due ('': none waits), then of each that is due its key,
# id, score, envelope ('': it is not known any more) and the limit that it has waited for ('': none)
# First it sends for those that have waited for room under a limit that has it now.
DUE = CLOCK + SEND_FOR_ALL + """
local prefix, step, bytes = unpack(ARGV)
local now, found = clock(), {}
local earliest = send_for_all(prefix, now)
bytes = tonumber(bytes)
for _, key in ipairs(KEYS) do
  local ids = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, step)
  for n = 1, #ids, 2 do
    local envelope, limited = unpack(redis.call('HMGET', prefix .. 'record:' .. ids[n],
      'envelope', 'limited'))
    envelope = envelope or ''
    for _, part in ipairs({key, ids[n], ids[n + 1], envelope, limited or ''}) do
      found[#found + 1] = part
    end
    bytes = bytes - #envelope
    if bytes < 0 then break end
  end
  if #ids == 0 then
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    if first and (not earliest or first - now < earliest) then earliest = first - now end
  end
  if bytes < 0 then break end
end
return {#found > 0 and '0' or tostring(earliest or ''), unpack(found)}
"""

#: Has a job leave the place where it waits for its time; gives its status, nil if it is not there
#: any more, or waits for another time by now.
LEAVE_PLACE = """
local function leave_place(prefix, key, id, score, queue, rank)
  local at = redis.call('ZSCORE', key, id)
  if not at or tonumber(at) ~= tonumber(score) then return nil end
  redis.call('ZREM', key, id)
  local status = redis.call('HGET', prefix .. 'record:' .. id, 'status')
  if status == 'queued' then redis.call('ZADD', prefix .. 'waiting:' .. queue, rank, id) end
  return status
end
"""

# After the time now and who sends them, of each: its key, id and score, the queue, its rank there,
# the broker's list and what to push to it ('': it is noted as unsent, and published then)
# gives for each 1, or 0 if it is no longer there, or has ended
SEND = PUSH + LEAVE_PLACE + """
local prefix, now, sender, done = ARGV[1], ARGV[2], ARGV[3], {}
for n = 4, #ARGV, 8 do
  local key, id, score, queue, rank, list, raw, bell = unpack(ARGV, n, n + 7)
  local status = leave_place(prefix, key, id, score, queue, rank)
  if status == 'queued' or status == 'started' then
    push(prefix, id, now, sender, list, raw, bell)
    done[#done + 1] = 1
  else
    done[#done + 1] = 0
  end
end
ring()
return done
"""

# gives 1: it waits here now, or did before; 0: it has ended; -1: no record
PUT_BACK = OF_JOB + CLOCK + """
local id, delay, unsent = unpack(ARGV)
local status = redis.call('HGET', record, 'status')
if not status then return -1 end
if status ~= 'queued' and status ~= 'started' then return 0 end
for _, place in ipairs({delayed, retrying, limited}) do
  if redis.call('ZSCORE', place, id) then return 1 end
end
local due = clock() + delay
redis.call('ZADD', retrying, due, id)
if status == 'queued' then
  redis.call('HSET', record, 'due', due)
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', unsent, id)
end
return 1
"""

# For what this version cannot read; its record may be lost, and is written anew.
# gives 1 for the first time
LEAVE = CLOCK + """
local record, open, waiting, delayed = unpack(KEYS)
local id, at, delay, envelope = unpack(ARGV)
local status = redis.call('HGET', record, 'status')
if not status then
  redis.call('HSET', record, 'status', 'queued', 'envelope', envelope, 'anew', '1')
  redis.call('ZADD', open, at, id)
elseif status ~= 'queued' and status ~= 'started' then
  return 0
end
redis.call('ZADD', delayed, 'NX', clock() + delay, id)
redis.call('ZREM', waiting, id)
return redis.call('HSETNX', record, 'left', '1')
"""

# gives 1, or 0 if it does not wait
RESCHEDULE = OF_JOB + """
local id, due, unsent = unpack(ARGV)
if redis.call('HGET', record, 'status') ~= 'queued' then return 0 end
redis.call('HSET', record, 'due', due)
redis.call('ZREM', limited, id)
if redis.call('ZSCORE', retrying, id) then
  redis.call('ZADD', retrying, due, id)
else
  redis.call('ZADD', delayed, due, id)
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', unsent, id)
end
return 1
"""

# Of each: its key, id and score, the queue and its rank there; for a message that is sent already.
HAND_OVER = LEAVE_PLACE + """
for n = 2, #ARGV, 5 do leave_place(ARGV[1], unpack(ARGV, n, n + 4)) end
"""

POSTPONE = CLOCK + """
local key, due = KEYS[1], clock() + ARGV[1]
for n = 2, #ARGV do redis.call('ZADD', key, 'XX', due, ARGV[n]) end
"""


@dataclass(frozen=True)
class Due:
    """A job whose time has come, and the place where it stands."""

    message: Message
    key: str
    score: str
    #: The broker's list, the text to push there, and its bell; None: it is published.
    push: tuple[str, str, str] | None = None

    @property
    def rank(self) -> float:
        """What its queue's waiting jobs are sorted by: it comes when it is due."""
        shift = rank(self.message) - self.message.enqueued_at
        return shift + max(self.message.enqueued_at, float(self.score))


@dataclass(frozen=True)
class Look:
    """What is due, and in how many seconds something else is; None: nothing waits."""

    due: Sequence[Due]
    next_in: float | None


class Elsewhere(NamedTuple):
    """How many jobs wait in the places beside ``waiting``, which are named as these."""

    #: They were enqueued for later.
    delayed: int
    #: They were put back, or wait for a retry.
    retrying: int
    #: A limit had no room for them.
    limited: int

    @property
    def for_their_time(self) -> int:
        """How many wait for a time, whether they were enqueued for later or put back."""
        return self.delayed + self.retrying


class Delayed(Jobs):
    """Has jobs wait, and says whose time has come."""

    @reachable
    def due(self, step: int = STEP) -> Look:
        """The jobs whose time has come: at most ``step`` of each set.

        Those that only a newer version can read are looked at later, and those whose records are
        gone are forgotten.
        """
        keys = [
            self._key(kind, queue)
            for kind in ("delayed", "retrying")
            for queue in self._settings.queues
        ]
        left, *parts = self._script(DUE)(keys=keys, args=[self._prefix, step, STEP_BYTES])
        found = list[Due]()
        unreadable: dict[str, list[str]] = {}
        for key, message_id, score, envelope, limited in zip(*[iter(parts)] * 5, strict=True):
            if not envelope:
                self.redis.zrem(key, message_id)
                continue
            try:
                message = Message.from_json(envelope)
                if limited:  # it has waited in front of those that came meanwhile
                    message = replace(message, at_front=True)
                found.append(Due(message, key, score))
            except BadMessage:
                unreadable.setdefault(key, []).append(message_id)
        for key, ids in unreadable.items():
            self._script(POSTPONE)(keys=[key], args=[UNREADABLE, *ids])
        return Look(found, float(left) if left else None)

    @reachable
    def send_due(self, due: Sequence[Due]) -> list[bool]:
        """Move them on: each is pushed in this step, or noted as unsent, for the caller to publish.
        False for those that somebody else has moved, or that have ended.
        """
        if not due:
            return []
        arguments: list[object] = [self._prefix, time.time(), self._sender]
        for one in due:
            push_list, raw, bell = one.push or ("", "", "")
            arguments += (
                one.key, one.message.id, one.score, one.message.queue, repr(one.rank),
                push_list, raw, bell,
            )  # fmt: skip
        return [bool(reply) for reply in self._script(SEND)(args=arguments)]

    @reachable
    def for_later(self) -> Iterator[list[Due]]:
        """All jobs that wait for their time, in portions; each leaves by ``hand_over`` meanwhile.

        Without those that only a newer version can read.
        """
        for kind in ("delayed", "retrying"):
            for queue in self._settings.queues:
                key, start = self._key(kind, queue), 0
                while ids := dict(self.redis.zrange(key, start, start + STEP - 1, withscores=True)):
                    found = [
                        Due(record.message, key, repr(ids[record.message.id]))
                        for record in self.read_all([*ids])
                    ]
                    yield found
                    start += len(ids) - len(found)

    @reachable
    def hand_over(self, due: Sequence[Due]) -> None:
        """Note that these jobs' messages are on the broker, which keeps them until they are due."""
        arguments: list[object] = [self._prefix]
        for one in due:
            message = one.message
            arguments += one.key, message.id, one.score, message.queue, repr(one.rank)
        self._script(HAND_OVER)(args=arguments)

    @reachable
    def put_back(self, message: Message, delay: float) -> bool:
        """Have the job wait for so many seconds; False if it has ended.

        A record that was lost is written anew.
        """
        arguments = [message.id, delay, self._key("unsent")]
        answer = self._script(PUT_BACK)(keys=self._keys(message), args=arguments)
        if answer == -1 and not self.buried([message]):
            self.record_anew(message)
            answer = self._script(PUT_BACK)(keys=self._keys(message), args=arguments)
        return bool(answer == 1)

    @reachable
    def leave(self, header: Mapping[str, object], arguments: object, delay: float) -> bool:
        """The same for a message that only a newer version can read; whether for the first time.

        It counts as one for later: a worker that waits for what it has begun must not wait for it.
        Raises BadMessage if its header has not even what a job needs to be kept.
        """
        names = message_id, site, queue = [header.get(name) for name in ("id", "site", "queue")]
        at = header.get("enqueued_at")
        if not all(isinstance(name, str) for name in names) or not isinstance(at, (int, float)):
            raise BadMessage("Its header says of no site and queue that a job is theirs.")
        keys = [
            self._key("record", str(message_id)), self._key("open", str(site)),
            self._key("waiting", str(queue)), self._key("delayed", str(queue)),
        ]  # fmt: skip
        text = to_json({"header": header, "arguments": arguments})
        return bool(self._script(LEAVE)(keys=keys, args=[message_id, at, delay, text]))

    @reachable
    def reschedule(self, message: Message, at: float) -> bool:
        """Have a job that waits be due then; False if it has begun or ended."""
        arguments = [message.id, repr(at), self._key("unsent")]
        return bool(self._script(RESCHEDULE)(keys=self._keys(message), args=arguments))

    @reachable
    def call_up(self, message: Message) -> None:
        """Let a job that waits for its time be begun by the caller, who needs no message for it."""
        with self.redis.pipeline() as pipe:
            for kind in ("delayed", "retrying", "limited"):
                pipe.zrem(self._key(kind, message.queue), message.id)
            pipe.execute()

    @reachable
    def count_delayed(self, queues: Iterable[str]) -> Elsewhere:
        """How many jobs of these queues wait in another place than ``waiting``."""
        return Elsewhere(*map(sum, zip((0, 0, 0), *self.delayed_by_queue(queues).values())))

    @reachable
    def delayed_by_queue(self, queues: Iterable[str]) -> dict[str, Elsewhere]:
        """The same for each of them, in one round trip."""
        queues = [*queues]
        with self.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                for kind in Elsewhere._fields:
                    pipe.zcard(self._key(kind, queue))
            sizes = iter(pipe.execute())
        return {queue: Elsewhere(*(next(sizes) for _ in Elsewhere._fields)) for queue in queues}

    @reachable
    def count_overdue(self) -> int:
        """How many jobs should long have been sent to their queues, and nobody has sent them."""
        until = self.now() - OVERDUE
        with self.redis.pipeline(transaction=False) as pipe:
            for kind in ("delayed", "retrying"):
                for queue in self._settings.queues:
                    pipe.zcount(self._key(kind, queue), "-inf", until)
            return sum(pipe.execute())

    @reachable
    def now(self) -> float:
        """The time by Redis's clock, by which jobs are due."""
        seconds, microseconds = self.redis.time()
        return float(seconds + microseconds / 1e6)
