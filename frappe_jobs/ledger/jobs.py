"""A job on its way: recorded, begun, held by a lease, put back or tried again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any
from uuid import uuid4

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.fields import Fields
from frappe_jobs.ledger.indexing import Indexing
from frappe_jobs.ledger.keys import rank
from frappe_jobs.ledger.limits import countable
from frappe_jobs.ledger.reading import Records
from frappe_jobs.ledger.record import OPEN, STARTED, Attempt, Refusal
from frappe_jobs.ledger.scripts import (
    HAND_BACK,
    NOTE,
    RECORD,
    RECORD_PLAIN,
    RELEASE,
    RENEW,
    RETRY,
    START,
    WENT_ON,
)
from frappe_jobs.ledger.tombstones import WHILE_IT_WAITS, Tombstones, hour_of, name_of
from frappe_jobs.message import Held, Message, Recorded, Sending, to_json
from frappe_jobs.texts.error_text import bounded, safe

#: Characters that are kept of why an attempt before failed.
SHORT = 300


class Jobs(Fields, Records, Tombstones, Indexing):
    """What happens to a job until it ends."""

    @reachable
    def record(self, sendings: Sequence[Sending], *, anew: bool = False) -> list[Recorded]:
        """Write the records of messages that are about to be sent.

        DELAYED for a message that is not due yet: it is pushed or published when it is.
        REFUSED, and no record, for a message that claims a job id which is taken, and for a message
        from an outbox that has a tombstone.
        ``anew``: these records were lost, and their jobs may have run.
        """
        if len(sendings) == 1 and not anew and self._record_plain(sendings[0]):
            return [Recorded.WRITTEN]
        recording = self._recording(sendings, anew=anew)
        return [*map(Recorded, self._step(RECORD)(args=recording))]

    def record_each(self, chunks: Iterable[Sequence[Sending]]) -> Iterator[list[Recorded]]:
        """``record`` all of these, in order; a chunk is made ready while Redis notes another."""
        with self.reaching():
            for found in self._step(RECORD).each(map(self._recording, chunks)):
                yield [*map(Recorded, found)]

    def _recording(self, sendings: Sequence[Sending], *, anew: bool = False) -> list[Any]:
        """RECORD's arguments."""
        rows: list[list[Any]] = []
        texts: list[str] = []
        for sending in sendings:
            message, (push_list, raw, bell) = sending.message, sending.push or ("", "", "")
            rows.append([
                message.id, message.job_id, message.site, message.queue,
                repr(message.enqueued_at), push_list, bell, *self._how(sending, anew),
            ])  # fmt: skip
            texts += message.to_json(), raw
        head = self._prefix, to_json(rows)
        messages = [sending.message for sending in sendings]
        labels = *self._all_labels(messages, anew=anew), *self._places(messages)
        tail = time.time(), WHILE_IT_WAITS, self._sender, *labels
        return [*head, *texts, *tail]

    def _how(self, sending: Sending, anew: bool) -> list[dict[str, Any]]:
        """What RECORD is told beside what all messages have; nothing as a rule."""
        message = sending.message
        how: dict[str, Any] = {}
        if message.at_front:
            how["rank"] = repr(rank(message))
        if sending.claim:
            how["claim"] = self._claim_ttl()
        if sending.due:
            how["due"] = self._key("due", sending.due)
        if anew:
            how["anew"] = 1
        if sending.has_row:
            how |= {"hour": hour_of(message), "tombstone": name_of(message)}
        if sending.at is not None:
            how["later"] = repr(sending.at)
        if sending.replaces:
            how["replaces"] = 1
        if message.expires_at is not None:
            how["expires"] = repr(message.expires_at)
        return [how] if how else []

    def _record_plain(self, sending: Sending) -> bool:
        """Write the record of a message of which nothing more is asked; False: RECORD is to.

        As it is where more is written of each job: its history, an index of searches.
        """
        message, settings = sending.message, self._settings
        if sending.push is None or not sending.is_plain or message.job_id != message.id:
            return False
        if settings.keeps_history or settings.keeps_search_index:
            return False
        push_list, raw, bell = sending.push
        args = (
            self._prefix, message.id, message.site, message.queue, message.enqueued_at,
            rank(message), message.to_json(), push_list, raw, bell,
        )  # fmt: skip
        return bool(self._script(RECORD_PLAIN)(args=args))

    @reachable
    def start(
        self, message: Message, holder: str, run: str | None = None, held: Held | None = None
    ) -> Attempt | Refusal:
        """Note that a worker begins the job, and lease the job to that worker.

        Asked again for the same ``run``, because the reply was lost, it is the same start.
        A Refusal, and nothing is noted, if the job has ended, has expired, runs elsewhere, waits
        for its time, or was begun too often by processes that died; if it is to wait for another
        run, it is put back in this step.  A record that was lost (a flushed Redis) is written anew,
        so that its job still runs.  Refused, too, if the message is ``held`` no longer, or was
        taken ahead and by now an at-front job waits, or a pause is in force.
        """
        run = run or uuid4().hex
        answer, *more = self._start(message, holder, run, held)
        if answer == -1:
            if self.buried([message]):
                return Refusal()
            self.record_anew(message)
            answer, *more = self._start(message, holder, run, None)
        if answer > 0:
            return Attempt(answer, more[0], is_recorded_anew=bool(more[1]))
        if answer in (-2, -7):
            return Refusal(wait=more[0] / 1000)
        if answer == -3:
            return Refusal(died=more[0], died_ending_it=more[0] - self._settings.max_starts)
        if answer == -8:
            return Refusal(limited=more[0])
        return Refusal(
            superseded=answer == -4, forged=answer == -5, delayed=answer == -6,
            expired=answer == -10, given_back=answer == -11, others_first=answer == -12,
        )  # fmt: skip

    def _start(self, message: Message, holder: str, run: str, held: Held | None) -> list[Any]:
        """START's answer, which may ask for one of the arguments: a limit counts by it."""
        name = self._counted_by.get(message.method, "")
        keys, how = [*self._keys(message)], ["", "", ""]
        if held is not None:
            keys += [held.key, self._key("paused"), *held.front]
            ahead_in = "" if message.at_front else held.ahead_in
            how = [held.token, ahead_in, to_json(message.site)[1:-1]]
        while True:
            value = countable(message.arguments.get(name)) if name else ""
            answer: list[Any] = self._step(START)(
                keys=keys,
                args=[
                    message.id, time.time(), holder, self._settings.lease * 1000,
                    self._settings.max_starts, run, _text_of(message.expires_at), message.method,
                    countable(message.concurrency_key) if message.concurrency_key else "",
                    name, value, *how, *message.marks(), *self._labels(message),
                ],
            )  # fmt: skip
            if answer[0] != -9:
                return answer
            name = self._counted_by[message.method] = str(answer[1])

    @cached_property
    def _counted_by(self) -> dict[str, str]:
        """By method, by which argument a limit was last seen to count it."""
        return {}

    def record_anew(self, message: Message) -> None:
        """Write a record that was lost; its job may have run."""
        self.record([Sending(message)], anew=True)

    @reachable
    def is_held(self, message: Message, run: str) -> bool:
        """Whether that run of the job may still commit: no other run has begun, and none ended it.

        True where its record was lost.
        """
        key = self._key("record", message.id)
        status, newest = self.redis.hmget(key, "status", "run")
        return status is None or (status, newest) == (STARTED, run)

    @reachable
    def went_on(self, message: Message, run: str) -> None:
        """Note that this run came further than those before: processes that died count anew."""
        self._script(WENT_ON)(keys=[self._key("record", message.id)], args=[run])

    @reachable
    def renew(self, leases: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bool]:
        """Renew these leases, message ids and their holders; gives those that others hold by now.

        True beside a lease: its holder was the last to begin the job.
        """
        milliseconds, now = self._settings.lease * 1000, time.time()
        with self.redis.pipeline(transaction=False) as pipe:
            for message_id, holder in leases:
                keys = [self._key("lease", message_id), self._key("record", message_id)]
                self._script(RENEW)(keys=keys, args=[holder, milliseconds, now], client=pipe)
            replies = pipe.execute()
        return {lease: said == 0 for lease, said in zip(leases, replies, strict=True) if said < 1}

    @reachable
    def release(self, message: Message, holder: str) -> None:
        """Give the lease back if no other has it: its holder's process is gone."""
        keys = [self._key("lease", message.id), self._key("record", message.id)]
        self._script(RELEASE)(keys=keys, args=[holder])

    @reachable
    def hand_back(self, message: Message, holder: str) -> None:
        """Note that the job waits again: its holder's process was ended, and not by the job."""
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
        """Note that the job waits for its next attempt, ``delay`` seconds from now.

        Not if it has ended, or another process than ``holder`` runs it by now.  ``counts``: whether
        that is one of its retries.
        """
        noted = chain.from_iterable(self._kept(fields).items())
        why = ["", ""]
        if counts and "reason" in fields:
            why = [safe(bounded(fields.get(name, ""), SHORT)) for name in ("error", "reason")]
        arguments = [
            message.id, delay, holder or "", int(counts), *why, *noted, *self._labels(message),
        ]  # fmt: skip
        self._step(RETRY)(keys=self._keys(message), args=arguments)

    @reachable
    def note(
        self, message: Message, fields: Mapping[str, str], *, holder: str | None = None
    ) -> None:
        """Write into the record of a job that runs (its progress).

        Not if the record is no longer kept, or another process than ``holder`` runs the job by now.
        """
        arguments = [holder or "", *chain.from_iterable(self._kept(fields).items())]
        self._script(NOTE)(keys=[self._key("record", message.id)], args=arguments)

    def is_taken(self, message: Message) -> bool:
        """Whether its job's id would be refused if it claimed it now."""
        other = self.find(message.site, message.job_id)
        if other is None or other.status not in OPEN:
            return False
        if other.has_expired(time.time()):
            return False
        waits_since = max(other.due or 0, other.message.enqueued_at)
        claim_ttl = self._claim_ttl()
        return other.status == STARTED or claim_ttl < 0 or time.time() - waits_since < claim_ttl

    def _claim_ttl(self) -> int:
        """Seconds for which a waiting job holds its id; -1: as long as it waits.

        Where the broker cannot be searched, its message may be lost.
        """
        return -1 if self._is_searchable else self._settings.claim_ttl


def _text_of(moment: float | None) -> str:
    return "" if moment is None else repr(moment)
