"""The road of a job: recorded, begun, held by a lease, put back or tried again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any
from uuid import uuid4

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.counting import Counting
from frappe_jobs.ledger.fields import Fields
from frappe_jobs.ledger.keys import rank
from frappe_jobs.ledger.reading import Records
from frappe_jobs.ledger.record import OPEN, STARTED, Attempt, Refusal
from frappe_jobs.ledger.scripts import HAND_BACK, NOTE, RECORD, RELEASE, RENEW, RETRY, START
from frappe_jobs.ledger.tombstones import WHILE_IT_WAITS, Tombstones, hour_of, name_of
from frappe_jobs.message import Message, Recorded, Sending, to_json


class Jobs(Fields, Records, Tombstones, Counting):
    """What happens to a job until it ends."""

    @reachable
    def record(self, sendings: Sequence[Sending], *, anew: bool = False) -> list[Recorded]:
        """Write the records of messages that are about to be sent.

        REFUSED for each whose job's id is taken where it claims it, or that is in an outbox and has
        a tombstone: nothing was written for that one.
        ``anew``: these records were lost, and their jobs may have run.
        """
        rows: list[list[Any]] = []
        texts: list[str] = []
        for sending in sendings:
            message, (push_list, raw) = sending.message, sending.push or ("", "")
            rows.append([
                message.id, message.job_id, message.site, message.queue,
                repr(message.enqueued_at), repr(rank(message)),
                self._claim_ttl() if sending.claim else 0, push_list,
                self._key("due", sending.due) if sending.due else "", int(anew),
                hour_of(message), name_of(message) if sending.has_row else "",
            ])  # fmt: skip
            texts += message.to_json(), raw
        head = self._prefix, to_json(rows)
        labels = self._all_labels([sending.message for sending in sendings], anew=anew)
        tail = time.time(), WHILE_IT_WAITS, *labels
        return [Recorded(one) for one in self._step(RECORD)(args=[*head, *texts, *tail])]

    @reachable
    def start(self, message: Message, holder: str, run: str | None = None) -> Attempt | Refusal:
        """Note that a worker begins with it, and give it the job's lease.

        Asked again for the same ``run``, as the reply was lost, it is the same start.
        A Refusal, and nothing noted, if the job has ended, is somebody else's, or was begun too
        often by processes that died.  A record that was lost (a flushed Redis) is written anew, so
        that its job still runs.
        """
        keys, milliseconds = self._keys(message), self._settings.lease * 1000
        arguments = [
            message.id, time.time(), holder, milliseconds, self._settings.max_starts,
            run or uuid4().hex, *message.marks(), *self._labels(message),
        ]  # fmt: skip
        found = self._step(START)(keys=keys, args=arguments)
        if found[0] == -1:
            if self.buried([message]):
                return Refusal()
            self.record([Sending(message)], anew=True)
            found = self._step(START)(keys=keys, args=arguments)
        if found[0] > 0:
            return Attempt(found[0], found[1], is_recorded_anew=bool(found[2]))
        if found[0] == -2:
            return Refusal(wait=found[1] / 1000)
        if found[0] == -3:
            return Refusal(died=found[1])
        return Refusal(superseded=found[0] == -4, forged=found[0] == -5)

    @reachable
    def is_held(self, message: Message, run: str) -> bool:
        """Whether that run of it may still commit: nobody has begun another one, or ended it.

        True where its record was lost.
        """
        key = self._key("record", message.id)
        status, newest = self.redis.hmget(key, "status", "run")
        return status is None or (status, newest) == (STARTED, run)

    @reachable
    def renew(self, leases: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bool]:
        """Renew these leases, message ids and their holders; gives those that are somebody else's.

        With each whether that holder has begun the job, and nobody since.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id, holder in leases:
                keys = [self._key("lease", message_id), self._key("record", message_id)]
                self._script(RENEW)(
                    keys=keys, args=[holder, self._settings.lease * 1000], client=pipe
                )
            replies = pipe.execute()
        return {one: said == 0 for one, said in zip(leases, replies, strict=True) if said < 1}

    @reachable
    def release(self, message: Message, holder: str) -> None:
        """Give the lease back, if it is that holder's: its process is gone."""
        self._script(RELEASE)(keys=[self._key("lease", message.id)], args=[holder])

    @reachable
    def hand_back(self, message: Message, holder: str) -> None:
        """Note that the job waits again: that holder's process was ended, and not by the job."""
        arguments = [message.id, rank(message), holder]
        self._script(HAND_BACK)(keys=self._keys(message), args=arguments)

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
        due = repr(time.time() + delay)
        noted = chain.from_iterable(self._kept({"due": due, **fields}).items())
        arguments = [
            message.id, rank(message), holder or "", int(counts), *noted, *self._labels(message),
        ]  # fmt: skip
        self._step(RETRY)(keys=self._keys(message), args=arguments)

    @reachable
    def note(
        self, message: Message, fields: Mapping[str, str], *, holder: str | None = None
    ) -> None:
        """Write into the record of a job that runs (its progress).

        Not where it is no longer kept, or runs elsewhere than with that holder by now.
        """
        arguments = [holder or "", *chain.from_iterable(self._kept(fields).items())]
        self._script(NOTE)(keys=[self._key("record", message.id)], args=arguments)

    def is_taken(self, message: Message) -> bool:
        """Whether its job's id would be refused if it claimed it now."""
        other = self.find(message.site, message.job_id)
        if other is None or other.status not in OPEN:
            return False
        waits_since = max(other.due or 0, other.message.enqueued_at)
        claim_ttl = self._claim_ttl()
        return other.status == STARTED or claim_ttl < 0 or time.time() - waits_since < claim_ttl

    def _claim_ttl(self) -> int:
        """So many seconds a waiting job holds its id; -1: as long as it waits.

        Where the messages cannot be looked at, it may be lost.
        """
        return -1 if self._is_searchable else self._settings.claim_ttl
