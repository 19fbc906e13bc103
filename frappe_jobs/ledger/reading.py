"""What is known of jobs: one message's record, a site's, how many wait."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from frappe_jobs.ledger.connection import reachable, wait_for_word
from frappe_jobs.ledger.keys import AHEAD, BenchRedis
from frappe_jobs.ledger.record import ENDED, READERS, Record, parse_record
from frappe_jobs.message import Message
from frappe_jobs.texts.error_text import safe

#: The fields of a record that are short.
HEAD = ("envelope", *(READERS.keys() - {"attempts", "result", "traceback"}))

#: How many members two sets have together: Frappe's enqueue may ask for it each time.
COUNT = "return redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2])"


class Records(BenchRedis):
    """Reads the records of jobs."""

    @reachable
    def read(self, message_id: str) -> Record | None:
        """The record of that message; None if it was never written or is no longer kept."""
        return parse_record(self.redis.hgetall(self._key("record", message_id)))

    @reachable
    def read_all(self, ids: Iterable[str]) -> list[Record]:
        """The records of these messages, as far as they are kept."""
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id in ids:
                pipe.hgetall(self._key("record", message_id))
            return [record for record in map(parse_record, pipe.execute()) if record]

    @reachable
    def read_heads(self, ids: Sequence[str]) -> list[Record | None]:
        """The records of these messages without their long texts, results and tracebacks.

        None for each that is not known.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id in ids:
                pipe.hmget(self._key("record", message_id), HEAD)
            replies = pipe.execute() if ids else []
        pairs = (zip(HEAD, reply, strict=True) for reply in replies)
        return [
            parse_record({name: text for name, text in pair if text is not None}) for pair in pairs
        ]

    @reachable
    def find(self, site: str, job_id: str) -> Record | None:
        """The newest record of that job id on that site."""
        job_id = safe(job_id)
        message_id = self.redis.get(self._key("job", site, job_id)) or job_id
        record = self.read(str(message_id))
        if record and (record.message.site, record.message.job_id) == (site, job_id):
            return record
        return None

    @reachable
    def records(self, site: str, queue: str | None = None) -> list[Record]:
        """The site's records, oldest first: waiting, running, and the ended ones that are kept."""
        ids = self.redis.zrange(self._key("open", site), 0, -1)
        ids += self.redis.zrange(self._key("ended", site), 0, -1)
        records = sorted(self.read_all(ids), key=lambda record: record.message.enqueued_at)
        return [record for record in records if queue in (None, record.message.queue)]

    @reachable
    def waiting(self, queue: str) -> int:
        """How many jobs of that queue wait, of all sites."""
        keys = [self._key(kind, queue) for kind in ("waiting", "limited")]
        return int(self._script(COUNT)(keys=keys))

    def waiting_in_all(self) -> int:
        """How many jobs of all queues wait."""
        return sum(self.waiting(queue) for queue in self._settings.queues)

    @reachable
    def oldest(self, queue: str) -> float | None:
        """When the job that waits longest in that queue was enqueued; None if none waits."""
        front = self.redis.zrangebyscore(self._key("waiting", queue), "-inf", 0, 0, 1, True)
        behind = self.redis.zrangebyscore(self._key("waiting", queue), 0, "+inf", 0, 1, True)
        return min((score % AHEAD for _, score in (*front, *behind)), default=None)

    @reachable
    def position(self, message: Message) -> int | None:
        """How many jobs wait before it in its queue; None when it waits no longer."""
        rank = self.redis.zrank(self._key("waiting", message.queue), message.id)
        return None if rank is None else int(rank)

    @reachable
    def wait(self, message_id: str, timeout: float | None) -> Record | None:
        """The record once the job has ended, or as it is when ``timeout`` seconds are over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.redis.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(self._prefix + f"ended:{message_id}")
            while True:
                record = self.read(message_id)
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if record is None or record.status in ENDED or left <= 0:
                    return record
                wait_for_word(channel, left)  # the record is looked at again, whatever comes
