"""What Redis knows of jobs: each message's record, the claim on its job's id, the indexes.

Every change is one script: one round trip, and whole or not at all.  The ledger is always Redis,
also where another broker carries the messages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple
from uuid import uuid4

from frappe_jobs.errors import JobFailed
from frappe_jobs.ledger.connection import Connected, reachable, wait_for_word
from frappe_jobs.ledger.record import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    OPEN,
    QUEUED,
    STARTED,
    UNWRITTEN,
    Attempt,
    End,
    Record,
    Refusal,
    parse_record,
)
from frappe_jobs.ledger.scripts import (
    END,
    HAND_BACK,
    NOTE,
    RECORD,
    RELEASE,
    RENEW,
    RETRY,
    START,
)
from frappe_jobs.message import Message, Sending, to_json
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.texts.error_text import bounded, safe

#: What Celery calls the ends of a job, and what an error is for it that nobody raised.
CELERY_STATES = {FINISHED: "SUCCESS", FAILED: "FAILURE", CANCELLED: "REVOKED"}
JOB_FAILED = f"{JobFailed.__module__}.{JobFailed.__name__}"

#: So many messages that cannot be run are kept.
KEPT_ASIDE = 1_000

#: At-front jobs stand before the others of their queue in its index.
AHEAD = 10**10

#: Of each queue so many jobs are looked at, where messages may be lost.
SUSPECTS = 100

#: Seconds for which a cancelled job's message may wait in a queue without being run after all.
DROPPED_TTL = 30 * 24 * 3600
#: And once a worker has got it: until what it holds has surely come back or is gone.
TAKEN_TTL = 600


class JobKeys(NamedTuple):
    """What Redis holds of one job, in the order in which the script takes it that ends a job."""

    record: str
    open: str
    waiting: str
    ended: str
    failed: str
    #: From the caller's job id to its newest message.
    pointer: str
    lease: str
    running: str


class Ledger(Connected):
    """The records of one bench."""

    def __init__(self, settings: SettingsInForce) -> None:
        super().__init__(settings.redis_url)
        self._settings = settings
        self._prefix = settings.prefix
        #: So many characters are kept of these texts.
        self.longest = {
            "reason": settings.max_reason, "stage": settings.max_reason,
            "error": settings.max_reason, "traceback": settings.max_traceback,
            "result": settings.max_result,
        }  # fmt: skip
        self._record: Any = self.redis.register_script(RECORD)
        self._start: Any = self.redis.register_script(START)
        self._renew: Any = self.redis.register_script(RENEW)
        self._release: Any = self.redis.register_script(RELEASE)
        self._hand_back: Any = self.redis.register_script(HAND_BACK)
        self._retry: Any = self.redis.register_script(RETRY)
        self._note: Any = self.redis.register_script(NOTE)
        self._end: Any = self.redis.register_script(END)

    def kept(self, name: str, text: str) -> str:
        """What is kept of the text in that field; a result is JSON, and was bounded before."""
        return safe(text if name == "result" else bounded(text, self.longest[name]))

    def _kept(self, fields: Mapping[str, str]) -> dict[str, str]:
        return {
            name: self.kept(name, text) if name in self.longest else text
            for name, text in fields.items()
        }

    @reachable
    def record(self, sendings: Sequence[Sending]) -> list[bool]:
        """Write the records of messages that are about to be sent.

        False for each whose job's id is taken where it claims it: nothing was written for that one.
        """
        rows: list[list[Any]] = []
        texts: list[str] = []
        for sending in sendings:
            message, (push_list, raw) = sending.message, sending.push or ("", "")
            rows.append([
                message.id, message.job_id, message.site, message.queue,
                repr(message.enqueued_at), repr(_rank(message)),
                self._patience() if sending.claim else 0, push_list,
                self._key("due", sending.due) if sending.due else "",
            ])  # fmt: skip
            texts += message.to_json(), raw
        head = self._prefix, to_json(rows)
        return [bool(one) for one in self._record(args=[*head, *texts, time.time()])]

    @reachable
    def sent(self, messages: Sequence[Message]) -> None:
        """Note that the broker has these messages; those that were pushed it has in any case."""
        if messages:
            self.redis.zrem(self._key("unsent"), *(message.id for message in messages))

    @reachable
    def start(self, message: Message, holder: str, run: str | None = None) -> Attempt | Refusal:
        """Note that a worker begins with it, and give it the job's lease.

        Asked again for the same ``run``, as the reply was lost, it is the same start.
        A Refusal, and nothing noted, if the job has ended, is somebody else's, or was begun too
        often by processes that died.  A record that was lost (a flushed Redis) is written anew, so
        that its job still runs.
        """
        keys = [*self._moving_keys(message), self._key("open", message.site)]
        milliseconds = self._settings.lease * 1000
        arguments = [
            message.id, time.time(), holder, milliseconds, self._settings.max_starts,
            run or uuid4().hex, *message.marks(),
        ]  # fmt: skip
        found = self._start(keys=keys, args=arguments)
        if found[0] == 0:
            self._was_dropped(message)
        if found[0] == -1:
            if self._was_dropped(message):
                return Refusal()
            self.record([Sending(message)])
            found = self._start(keys=keys, args=arguments)
        if found[0] > 0:
            return Attempt(*found)
        if found[0] == -2:
            return Refusal(wait=found[1] / 1000)
        if found[0] == -3:
            return Refusal(died=found[1])
        return Refusal(superseded=found[0] == -4, forged=found[0] == -5)

    def _was_dropped(self, message: Message) -> bool:
        """Whether no worker may run it any more; one has got it now, so that ends soon.

        Not at once: should the worker's word be lost that it is done, another one gets it again.
        """
        seconds = max(TAKEN_TTL, 10 * self._settings.lease)
        return bool(self.redis.expire(self._key("dropped", message.id), seconds))

    @reachable
    def renew(self, leases: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bool]:
        """Renew these leases, message ids and their holders; gives those that are somebody else's.

        With each whether that holder has begun the job, and nobody since.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id, holder in leases:
                keys = [self._key("lease", message_id), self._key("record", message_id)]
                self._renew(keys=keys, args=[holder, self._settings.lease * 1000], client=pipe)
            replies = pipe.execute()
        return {one: said == 0 for one, said in zip(leases, replies, strict=True) if said < 1}

    @reachable
    def release(self, message: Message, holder: str) -> None:
        """Give the lease back, if it is that holder's: its process is gone."""
        self._release(keys=[self._key("lease", message.id)], args=[holder])

    @reachable
    def hand_back(self, message: Message, holder: str) -> None:
        """Note that the job waits again: that holder's process was ended, and not by the job."""
        arguments = [message.id, _rank(message), holder]
        self._hand_back(keys=self._moving_keys(message), args=arguments)

    @reachable
    def wait_for_retry(
        self,
        message: Message,
        delay: float,
        fields: Mapping[str, str],
        *,
        holder: str | None = None,
        counts: bool = True,
    ) -> None:
        """Note that the job waits for its next attempt, so many seconds from now.

        Not if it has ended, or runs elsewhere than with that holder by now.  ``counts``: as one of
        its retries.
        """
        due = {"due": repr(time.time() + delay)}
        arguments = [
            message.id,
            _rank(message),
            holder or "",
            int(counts),
            *_flat(due),
            *_flat(self._kept(fields)),
        ]
        self._retry(keys=self._moving_keys(message), args=arguments)

    @reachable
    def end(
        self,
        message: Message,
        status: str,
        fields: Mapping[str, str] | None = None,
        *,
        waiting_only: bool = False,
        is_written: bool = False,
        holder: str | None = None,
        call: str | None = None,
    ) -> bool:
        """Note that the job has ended, free its id, wake who waits for it.

        False, and nothing changed, if it had ended before (or has begun, with ``waiting_only``), or
        runs elsewhere than with that holder by now.  Asked again for the same ``call``, as the
        reply was lost, it says True again.
        The end of a tracked job is noted among those that its Background Task does not say yet,
        unless it does (``is_written``).
        """
        keys, arguments = self._ending(
            message, status, fields or {}, waiting_only, is_written, holder, call
        )
        ended = bool(self._end(keys=keys, args=arguments))
        if not ended and holder:  # who ran its message lets go of it
            self._was_dropped(message)
        return ended

    @reachable
    def cancel(
        self, messages: Sequence[Message], reason: str, *, waiting_only: bool = False
    ) -> list[bool]:
        """End these jobs as cancelled, in one round trip; what ``end`` says of each.

        Their messages may lie on the broker for longer than the records are kept: until
        ``forget_dropped`` a worker that gets one drops it, whether or not there is a record.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for one in messages:
                keys, arguments = self._ending(one, CANCELLED, {"reason": reason}, waiting_only)
                self._end(keys=keys, args=arguments, client=pipe)
                pipe.set(self._key("dropped", one.id), "", ex=DROPPED_TTL, nx=True)
            replies = pipe.execute()
        ended, marked = [bool(reply) for reply in replies[::2]], replies[1::2]
        self.forget_dropped(
            one.id
            for one, done, ours in zip(messages, ended, marked, strict=True)
            if ours and not done
        )
        return ended

    @reachable
    def forget_dropped(self, message_ids: Iterable[str]) -> None:
        """Note that no worker will get these messages."""
        if keys := [self._key("dropped", message_id) for message_id in message_ids]:
            self.redis.delete(*keys)

    @reachable
    def drop(self, message_id: str) -> None:
        """Have a worker that gets this message drop it, though nothing is known of it."""
        self.redis.set(self._key("dropped", message_id), "", ex=DROPPED_TTL)

    @reachable
    def dropped(self, message_ids: Iterable[str]) -> list[str]:
        """Those of the messages that no worker may run any more."""
        asked = list(message_ids)
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id in asked:
                pipe.exists(self._key("dropped", message_id))
            return [one for one, found in zip(asked, pipe.execute(), strict=True) if found]

    def _ending(
        self,
        message: Message,
        status: str,
        fields: Mapping[str, str],
        waiting_only: bool,
        is_written: bool = False,
        holder: str | None = None,
        call: str | None = None,
    ) -> tuple[list[str], list[Any]]:
        """The keys and the arguments of the script that ends a job."""
        fields = self._kept(fields)
        failed = status == FAILED
        ttl = self._settings.job_failure_ttl if failed else self._settings.results_ttl
        arguments = [
            message.id, time.time(), status, ttl, self._settings.failed_jobs_limit,
            int(waiting_only), self._prefix, *self._celery_result(message, status, fields),
            self._settings.results_ttl, *self._unwritten(message, status, fields, is_written),
            holder or "", call or uuid4().hex, *_flat(fields),
        ]  # fmt: skip
        keys = self._keys(message)
        if message.job_id == message.id:  # nobody asks by it: a key that an access list allows
            keys = keys._replace(pointer=self._prefix)
        return [*keys], arguments

    def _unwritten(
        self, message: Message, status: str, fields: Mapping[str, str], is_written: bool
    ) -> tuple[str, str]:
        """The key and the text of an end that a tracked job's own record does not say yet."""
        if message.task_id is None or is_written:
            return "", ""
        end = End(
            task_id=message.task_id, queue=message.queue, status=status, ended_at=time.time(),
            exception=fields.get("traceback") or fields.get("reason"), result=fields.get("result"),
        )  # fmt: skip
        return self._key(UNWRITTEN, message.site), to_json(end.__dict__)

    def _celery_result(
        self, message: Message, status: str, fields: Mapping[str, str]
    ) -> tuple[str, str]:
        """The key and the text of Celery's result, so that AsyncResult finds it; or nothing.

        Written here it costs no round trip, and is there for killed and cancelled jobs as well.
        """
        if not self._settings.keeps_results:
            return "", ""
        result = fields.get("result", "null")
        if status != FINISHED:
            error = "celery.exceptions.TaskRevokedError" if status == CANCELLED else ""
            module, _, kind = (fields.get("error") or error or JOB_FAILED).rpartition(".")
            said = fields.get("reason", "").removeprefix(f"{kind}: ")
            result = to_json({"exc_type": kind, "exc_module": module, "exc_message": [said]})
        meta = to_json(
            {
                "status": CELERY_STATES[status],
                "traceback": fields.get("traceback"),
                "children": [],
                "date_done": datetime.now(timezone.utc).isoformat(),
                "task_id": message.id,
            }
        )
        return f"{self._prefix}celery-task-meta-{message.id}", f'{meta[:-1]},"result":{result}}}'

    @reachable
    def note(
        self, message: Message, fields: Mapping[str, str], *, holder: str | None = None
    ) -> None:
        """Write into the record of a job that runs (its progress).

        Not where it is no longer kept, or runs elsewhere than with that holder by now.
        """
        keys, arguments = [self._key("record", message.id)], [
            holder or "",
            *_flat(self._kept(fields)),
        ]
        self._note(keys=keys, args=arguments)

    @reachable
    def find(self, site: str, job_id: str) -> Record | None:
        """The newest record of that job id on that site."""
        job_id = safe(job_id)
        message_id = self.redis.get(self._key("job", site, job_id)) or job_id
        record = self.read(str(message_id))
        return (
            record
            if record and (record.message.site, record.message.job_id) == (site, job_id)
            else None
        )

    def is_taken(self, message: Message) -> bool:
        """Whether its job's id would be refused if it claimed it now."""
        other = self.find(message.site, message.job_id)
        if other is None or other.status not in OPEN:
            return False
        waits_since = max(other.due or 0, other.message.enqueued_at)
        patience = self._patience()
        return other.status == STARTED or patience < 0 or time.time() - waits_since < patience

    @reachable
    def read(self, message_id: str) -> Record | None:
        """The record of that message, None if it was never written or is no longer kept."""
        return parse_record(self.redis.hgetall(self._key("record", message_id)))

    @reachable
    def records(self, site: str, queue: str | None = None) -> list[Record]:
        """The site's records, oldest first: waiting, running, and the ended ones that are kept."""
        ids = self.redis.zrange(self._key("open", site), 0, -1)
        ids += self.redis.zrange(self._key("ended", site), 0, -1)
        wanted = [one for one in self.read_all(ids) if queue in (None, one.message.queue)]
        return sorted(wanted, key=lambda record: record.message.enqueued_at)

    @reachable
    def waiting(self, queue: str) -> int:
        """How many jobs of that queue wait, of all sites."""
        return int(self.redis.zcard(self._key("waiting", queue)))

    def waiting_in_all(self) -> int:
        """How many jobs of all queues wait."""
        return sum(self.waiting(queue) for queue in self._settings.queues)

    @reachable
    def oldest(self, queue: str) -> float | None:
        """When the job that waits longest in that queue was enqueued; None if none waits."""
        front = self.redis.zrangebyscore(self._key("waiting", queue), "-inf", 0, 0, 1, True)
        behind = self.redis.zrangebyscore(self._key("waiting", queue), 0, "+inf", 0, 1, True)
        moments = [score % AHEAD for _, score in (*front, *behind)]
        return min(moments, default=None)

    @reachable
    def unsent(self, until: float) -> list[Record]:
        """What was recorded until then and still waits, though nobody noted that it was sent."""
        ids = self.redis.zrangebyscore(self._key("unsent"), "-inf", until)
        records = self.read_all(ids)
        begun = {*ids} - {one.message.id for one in records if one.status == QUEUED}
        if begun:  # so they were sent
            self.redis.zrem(self._key("unsent"), *begun)
        return [one for one in records if one.status == QUEUED]

    @reachable
    def suspects(
        self,
        queues: Iterable[str],
        *,
        waiting_since: float,
        looked_for: float,
        limit: int = SUSPECTS,
    ) -> list[Record]:
        """The jobs whose messages may be lost: of each queue those that have waited longest.

        They wait, or have been without a lease, since that time or before, and nobody has looked
        for their messages since the other one.
        """
        ids = self.redis.zrangebyscore(self._key("running"), "-inf", waiting_since)
        leases = self.redis.mget([self._key("lease", one) for one in ids]) if ids else []
        ids = [one for one, lease in zip(ids, leases, strict=True) if lease is None]
        for queue in queues:
            for ahead in (AHEAD, 0):
                ids += self.redis.zrangebyscore(
                    self._key("waiting", queue), -ahead, waiting_since - ahead, 0, limit
                )
        return [
            one
            for one in self.read_all(ids)
            if one.status in OPEN  # it may have ended meanwhile
            and (one.due or 0) <= waiting_since
            and (one.looked_for or 0) <= looked_for
        ]

    @reachable
    def looked_for(self, messages: Sequence[Message], now: float) -> None:
        """Note that these messages were looked for, and found or sent again."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.hset(self._key("record", message.id), "looked_for", now)
            pipe.execute()

    @reachable
    def take_turn(self, what: str, seconds: int) -> bool:
        """True for the first of all processes that asks, then for nobody until they are over."""
        return bool(self.redis.set(self._key("turn", what), "taken", nx=True, ex=seconds))

    @reachable
    def read_all(self, ids: Sequence[str]) -> list[Record]:
        """The records of these messages, of those that are known."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id in ids:
                pipe.hgetall(self._key("record", message_id))
            return [record for record in map(parse_record, pipe.execute()) if record]

    @reachable
    def position(self, message: Message) -> int | None:
        """How many jobs wait before it in its queue; None when it waits no longer."""
        rank = self.redis.zrank(self._key("waiting", message.queue), message.id)
        return None if rank is None else int(rank)

    @reachable
    def forget(self, message: Message) -> None:
        """Remove the record of a job that has ended."""
        keys = self._keys(message)
        with self.redis.pipeline() as pipe:
            pipe.delete(keys.record)
            pipe.zrem(keys.ended, message.id)
            pipe.zrem(keys.failed, message.id)
            if self.redis.get(keys.pointer) == message.id:
                pipe.delete(keys.pointer)
            pipe.execute()

    @reachable
    def wait(self, message_id: str, timeout: float | None) -> Record | None:
        """Return the record once the job has ended, or as it is when the seconds are over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.redis.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(self._prefix + f"ended:{message_id}")
            while True:
                record = self.read(message_id)
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if record is None or record.status in ENDED or left <= 0:
                    return record
                wait_for_word(channel, left)  # the record is looked at again, whatever comes

    @reachable
    def keep_aside(self, *messages: Mapping[str, str]) -> None:
        """Keep messages that cannot be run where people can look at them; the last 1,000 stay."""
        now, kept, count = repr(time.time()), self._key("damaged"), self._key("damaged:count")
        with self.redis.pipeline() as pipe:
            pipe.lpush(kept, *(json.dumps({**one, "at": now}) for one in messages))
            pipe.ltrim(kept, 0, KEPT_ASIDE - 1)
            pipe.incrby(count, len(messages))
            for key in (kept, count):
                pipe.expire(key, self._settings.job_failure_ttl)
            pipe.execute()

    @reachable
    def kept_aside(self) -> list[dict[str, str]]:
        """The messages that could not be run, newest first; ``at`` says since when, as a number."""
        return [json.loads(raw) for raw in self.redis.lrange(self._key("damaged"), 0, -1)]

    @reachable
    def count_kept_aside(self) -> int:
        """How many there were in all, since none came for as long as failed jobs are kept."""
        return int(self.redis.get(self._key("damaged:count")) or 0)

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _keys(self, message: Message) -> JobKeys:
        return JobKeys(
            record=self._key("record", message.id), open=self._key("open", message.site),
            waiting=self._key("waiting", message.queue), ended=self._key("ended", message.site),
            failed=self._key("failed", message.queue),
            pointer=self._key("job", message.site, message.job_id),
            lease=self._key("lease", message.id), running=self._key("running"),
        )  # fmt: skip

    def _moving_keys(self, message: Message) -> list[str]:
        """record, waiting, lease, running"""
        keys = self._keys(message)
        return [keys.record, keys.waiting, keys.lease, keys.running]

    def _patience(self) -> int:
        """So many seconds a waiting job holds its id; -1: as long as it waits.

        Where the messages cannot be looked at, it may be lost.
        """
        return self._settings.claim_ttl if self._settings.is_amqp else -1


def _rank(message: Message) -> float:
    """Its place among those that wait in its queue."""
    return message.enqueued_at - (AHEAD if message.at_front else 0)


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for item in fields.items() for part in item]
