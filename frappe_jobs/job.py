"""The caller's handle on a job, and what makes the handles."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import compress
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol

from frappe_jobs.arguments import Arguments
from frappe_jobs.brokers.base import Broker
from frappe_jobs.errors import (
    ArgumentError,
    BrokerError,
    BrokerUnavailable,
    HostError,
    JobError,
    JobFailed,
    JobNotFound,
    JobTimeout,
)
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, OPEN, QUEUED, STARTED, Record
from frappe_jobs.message import Message, Sending
from frappe_jobs.texts.moments import moment

if TYPE_CHECKING:  # whose stubs every type checker has: a bare Job is a Job[Any]
    from typing_extensions import TypeVar

    Value = TypeVar("Value", covariant=True, default=Any)
else:
    from typing import TypeVar

    Value = TypeVar("Value", covariant=True)

#: How many jobs are ended in a round trip.
CHUNK = 500

#: Why a job was not sent once more.
CHANGED, LOCKED = "changed", "locked"


class Follower(Protocol):
    """Keeps records of tracked jobs, besides the ledger's."""

    def settle_if_possible(self, messages: Iterable[Message]) -> None:
        """Write into their records how these jobs have ended, now or later."""

    def requeued(self, message: Message) -> None:
        """Write into its record that its job, which had ended, now waits as that message."""

    def never_sent(self, message: Message, why: object) -> None:
        """Write into its record that the message was not sent, and why."""


class Job(Generic[Value]):
    """A job as it was when it was last read; ``Job[str]``: of a method that returns a text.

    ``status`` is ``queued``, ``started``, ``finished``, ``failed`` or ``cancelled``; it, the
    ``reason`` and the ``result`` are as ``refresh()``, ``get_status()`` or ``wait()`` last read.
    """

    def __init__(self, record: Record, jobs: Jobs, unsent: str | None = None) -> None:
        self._record, self._jobs = record, jobs
        #: Why a tracked job has not been sent (yet), for people.
        self.unsent = unsent

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name} on {self.site}: {self.status}>"

    @property
    def id(self) -> str:
        """The caller's ``job_id``, or a generated id."""
        return self._record.message.job_id

    @property
    def message_id(self) -> str:
        """The id of this sending; it is Celery's task id, for ``celery.result.AsyncResult``."""
        return self._record.message.id

    @property
    def task_id(self) -> str | None:
        """The name of its Background Task; None if it is not tracked."""
        return self._record.message.task_id

    @property
    def name(self) -> str:
        """What people read in logs, events and listings: ``job_name``, else the method's path."""
        return self._record.message.name

    @property
    def method(self) -> str:
        """The method's dotted path."""
        return self._record.message.method

    @property
    def site(self) -> str:
        """The site that it runs on."""
        return self._record.message.site

    @property
    def user(self) -> str:
        """The user that it runs as: the one who enqueued it."""
        return self._record.message.user

    @property
    def queue(self) -> str:
        """The queue's name, as in ``enqueue``."""
        return self._record.message.queue

    @property
    def timeout(self) -> int:
        """Seconds."""
        return self._record.message.timeout

    @property
    def kwargs(self) -> dict[str, Any]:
        """The method's arguments."""
        return self._jobs.arguments.decode(self._record.message.arguments)

    @property
    def status(self) -> str:
        """``queued``, ``started``, ``finished``, ``failed`` or ``cancelled``."""
        return self._record.status

    @property
    def reason(self) -> str | None:
        """Why it failed or was cancelled, for people; else None."""
        return self._record.reason

    @property
    def traceback(self) -> str | None:
        """The failed method's traceback; None after a kill, which leaves none."""
        return self._record.traceback

    @property
    def result(self) -> Value | None:
        """What the method returned; None before its end, and if JSON cannot carry it."""
        result: Value | None = self._decoded()
        return result

    @property
    def attempt(self) -> int:
        """How often a worker has begun it; the first attempt is 1."""
        return self._record.attempt

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """The attempts before, oldest first: those that failed, or whose process died.

        Of the last 20 each ``attempt``, ``started_at``, ``ended_at``, ``worker``, ``error`` (the
        dotted path of its type) and ``reason``.
        """
        return [dict(one) for one in self._record.attempts]

    @property
    def enqueued_at(self) -> float:
        """When it was enqueued, in seconds since 1970, like all times here."""
        return self._record.message.enqueued_at

    @property
    def due(self) -> float | None:
        """When it is due, or its next attempt is; None unless it waits for its time."""
        return self._record.due if self.status == QUEUED else None

    @property
    def limited(self) -> str | None:
        """The limit that has no room for it, such as "site|site1"; None unless it waits for one."""
        return self._record.limited if self.status == QUEUED else None

    @property
    def expires_at(self) -> float | None:
        """When it is too late to begin it; None: never."""
        return self._record.message.expires_at

    @property
    def started_at(self) -> float | None:
        """When its last attempt began; None before."""
        return self._record.started_at

    @property
    def ended_at(self) -> float | None:
        """When it finished, failed or was cancelled; None before."""
        return self._record.ended_at

    @property
    def progress(self) -> float | None:
        """Per cent, as the job last published it."""
        return self._record.progress

    @property
    def stage(self) -> str | None:
        """What it is doing, as the job last published it."""
        return self._record.stage

    @property
    def position(self) -> int | None:
        """How many jobs of all sites in its queue were sent before it and wait now.

        None if it does not wait.  On Redis sites take turns, so it may be run sooner.
        """
        return self._jobs.ledger.position(self._record.message)

    def get_status(self) -> str:
        """Read the job anew and return its status; raises JobNotFound once it is no longer kept."""
        self.refresh()
        return self.status

    def refresh(self) -> None:
        """Read the job anew; raises JobNotFound once it is no longer kept, or not sent yet."""
        self._take(self._jobs.ledger.read(self.message_id))

    def _take(self, record: Record | None) -> None:
        if record is None:
            why = self.unsent or "it is no longer kept"
            raise JobNotFound(f"Job {self.id} of {self.site} is not known: {why}.")
        self._record = record

    def wait(self, timeout: float | None = None) -> Value:
        """Return the job's result once it has ended.

        Raises JobFailed with the reason if it failed or was cancelled, JobTimeout after that many
        seconds (the job goes on), JobNotFound once it is no longer kept.
        """
        self._take(self._jobs.ledger.wait(self.message_id, timeout))
        if self.status in OPEN:
            raise JobTimeout(f"Job {self.id} is still {self.status} after {timeout:g} s.")
        if self.status != FINISHED:
            raise JobFailed(f"Job {self.id} ({self.name}) {self.status}: {self.reason}").about(
                job=self
            )
        result: Value = self._decoded()
        return result

    def _decoded(self) -> Any:
        return self._jobs.arguments.decode_value(self._record.result)

    def cancel(self) -> bool:
        """End it without its effect: a waiting job never starts, a running job is killed.

        False, and nothing is changed, if it had already ended.
        """
        if self.unsent:
            self.refresh()
        message = self._record.message
        ended = bool(self._jobs.cancel_waiting([message], "cancelled")) or self._jobs.stop(message)
        self.refresh()
        return ended

    def move(self, when: datetime) -> None:
        """Have a job that waits be due then; a time that is over means now.

        Raises ArgumentError for a time without a zone, or when it will have expired; JobError if
        it has begun or ended.
        """
        at = moment(when, _no_zone)
        if self.expires_at is not None and self.expires_at <= at:
            raise ArgumentError(f"Job {self.id} expires before that, so it would never begin.")
        if not self._jobs.ledger.reschedule(self._record.message, at):
            self.refresh()
            raise JobError(f"Job {self.id} is {self.status}; only a job that waits can be moved.")
        self.refresh()

    def requeue(self, *, from_start: bool = False) -> Job[Value]:
        """Send an ended job once more, with the same id and arguments; returns its new handle.

        A job that has not finished goes on behind the steps and rows that it has done, unless
        ``from_start``.  Raises JobError while it waits or runs.
        """
        self.refresh()
        if self.status in OPEN:
            raise JobError(f"Job {self.id} is {self.status}; only ended jobs can be run again.")
        goes_on = self.status != FINISHED and not from_start
        return self._jobs.requeue(self._record.message, goes_on=goes_on)

    def requeue_with(self, arguments: Mapping[str, Any]) -> Job[Value]:
        """The same from its start, with these arguments, as JSON carries them, in their place.

        Raises JobError while it waits or runs.
        """
        self.refresh()
        if self.status in OPEN:
            raise JobError(f"Job {self.id} is {self.status}; only ended jobs can be run again.")
        return self._jobs.requeue(self._record.message, goes_on=False, arguments=arguments)

    def delete(self) -> None:
        """Remove what is known of it; if it waits or runs, it is cancelled before."""
        self.cancel()
        self._jobs.ledger.forget(self._record.message)


class Jobs:
    """Makes the handles, and does their work."""

    def __init__(
        self, ledger: Ledger, broker: Broker, arguments: Arguments, follower: Follower
    ) -> None:
        self.ledger, self.arguments = ledger, arguments
        self._broker, self._follower = broker, follower

    def of(self, record: Record) -> Job:
        """The handle on the job whose record was read."""
        return Job(record, self)

    def of_message(self, message: Message) -> Job:
        """The handle on a message's job, as its record is now."""
        return self.of(self.ledger.read(message.id) or Record(message, QUEUED))

    def waiting(
        self, message: Message, *, unsent: str | None = None, due: float | None = None
    ) -> Job:
        """The handle on a message's job, as waiting; ``unsent`` says why it was not sent yet."""
        return Job(Record(message, QUEUED, due=due), self, unsent)

    def cancel_waiting(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Cancel those of the jobs that still wait, and free their ids; gives them.

        If the broker cannot remove a message, the worker that gets it drops it.
        """
        ended: list[Message] = []
        for start in range(0, len(messages), CHUNK):
            chunk = messages[start : start + CHUNK]
            cancelled = self.ledger.cancel(chunk, reason, waiting_only=True)
            ended += [message for message, done in zip(chunk, cancelled, strict=True) if done]
        self.let_go(ended, ended)
        return ended

    def let_go(self, cancelled: Sequence[Message], searched: Sequence[Message]) -> int:
        """Settle what has been cancelled; gives how many messages the broker has removed.

        It looks only for those that are to be ``searched``.
        """
        removed = len(self._broker.discard(searched)) if searched else 0
        if cancelled:
            self._follower.settle_if_possible(cancelled)
        return removed

    def stop(self, message: Message) -> bool:
        """Cancel the job even if it runs: its process is killed; False if it had ended."""
        if not self.ledger.cancel([message], "cancelled while it ran")[0]:
            return False
        self._broker.stop(message)
        self._follower.settle_if_possible([message])
        return True

    def requeue(
        self, ended: Message, *, goes_on: bool, arguments: Mapping[str, Any] | None = None
    ) -> Job:
        """Send an ended job once more, as a new message; the old message's record is removed.

        With these ``arguments`` if any are given.
        """
        message = ended.again(at=time.time(), goes_on=goes_on)
        if arguments is not None:
            message = replace(message, arguments=arguments)
        self._follower.requeued(message)
        self._send_instead([(ended, message)])
        return self.waiting(message)

    def requeue_all(self, records: Sequence[Record], *, from_start: bool = False) -> dict[str, str]:
        """Send ended jobs once more, as ``requeue`` does, each once whoever else does it too.

        Gives why the others were not sent, by their messages' ids: they have ``changed`` since
        they were read, or their Background Task is ``locked``.  Raises BrokerUnavailable; those
        that were not sent can be retried then.
        """
        claimed = self.ledger.claim_again(records)
        left = {one.message.id: CHANGED for one, ok in zip(records, claimed, strict=True) if not ok}
        instead: list[tuple[Message, Message]] = []
        for record in compress(records, claimed):
            goes_on = record.status != FINISHED and not from_start
            message = record.message.again(at=time.time(), goes_on=goes_on)
            try:
                self._follower.requeued(message)
            except HostError:
                left[record.message.id] = LOCKED
                self.ledger.unclaim_again([record.message])
            else:
                instead.append((record.message, message))
        self._send_instead(instead)
        return left

    def _send_instead(self, pairs: Sequence[tuple[Message, Message]]) -> None:
        """Send the second of each pair, and remove the record of the first, which has ended."""
        try:
            self._broker.publish([Sending(message) for _, message in pairs], self.ledger)
        except BrokerError as error:
            sent = {message.id for message in error.details.get("sent", ())}
            unsent = [pair for pair in pairs if pair[1].id not in sent]
            for _, message in unsent:
                self._follower.never_sent(message, error)
            with suppress(BrokerUnavailable):  # else the sweep sends what was recorded
                self.ledger.cancel([one for _, one in unsent], "never sent", waiting_only=True)
                self.ledger.unclaim_again([ended for ended, _ in unsent])
                self.ledger.forget_all([ended for ended, one in pairs if one.id in sent])
            raise
        self.ledger.forget_all([ended for ended, _ in pairs])


def _no_zone() -> NoReturn:
    raise ArgumentError("Give the time a zone, such as when.astimezone().")


__all__ = ["CANCELLED", "FAILED", "FINISHED", "QUEUED", "STARTED", "Job", "Jobs"]
