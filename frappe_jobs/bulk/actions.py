"""Retry, cancel or delete the jobs that were shown; what has changed since stays as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress, islice

from frappe_jobs.brokers.base import Broker
from frappe_jobs.bulk.shown import Shown
from frappe_jobs.errors import BrokerError
from frappe_jobs.job import CHANGED, CHUNK, Jobs
from frappe_jobs.ledger.record import ENDED, OPEN, QUEUED, STARTED, Record
from frappe_jobs.message import Message

#: A queue of the broker that holds more messages is not searched for those that are cancelled.
LONGEST_SEARCHED = 100_000
#: Why a job was left as it is, beside what ``Jobs.requeue_all`` says.
GONE, UNFIT = "gone", "unfit"

#: Is told how many jobs are dealt with, and of how many.
Progress = Callable[[int, int], None]


@dataclass
class Outcome:
    """What has become of the jobs."""

    #: The ids of the jobs to which it was done.
    done: list[str] = field(default_factory=list)
    #: How many were left as they are: they have ``changed`` since they were shown, are ``gone``,
    #: or were ``unfit`` from the beginning: only ended jobs are retried, only others cancelled; of
    #: some the Background Task was ``locked``, or its database away.
    skipped: Counter[str] = field(default_factory=Counter)
    #: So many messages of cancelled jobs stay with the broker, until a worker gets and drops them.
    left_behind: int = 0


class Bulk:
    """What is done to many jobs, in as few round trips."""

    def __init__(self, jobs: Jobs, broker: Broker) -> None:
        self._jobs, self._ledger, self._broker = jobs, jobs.ledger, broker

    def retry(
        self,
        shown: Shown,
        sites: Collection[str],
        progress: Progress | None = None,
        *,
        from_start: bool = False,
    ) -> Outcome:
        """Send ended jobs once more, each once, whoever else does the same.

        Jobs of other sites than these are left as if they were gone.  Raises BrokerUnavailable,
        with the outcome so far in ``details["outcome"]``, like all here.
        """
        with _telling(Outcome()) as outcome:
            for records in self._chunks(shown, sites, ENDED, outcome, progress):
                left = self._jobs.requeue_all(records, from_start=from_start)
                for one in records:
                    _count(one, left.get(one.message.id), outcome)
        return outcome

    def cancel(
        self, shown: Shown, sites: Collection[str], progress: Progress | None = None
    ) -> Outcome:
        """End jobs without their effect: what waits never starts, what runs is killed."""
        with _telling(Outcome()) as outcome, self._letting_go(outcome) as taken:
            for records in self._chunks(shown, sites, OPEN, outcome, progress):
                ended = self._cancelled(records, taken)
                for one in records:
                    _count(one, None if one.message.id in ended else CHANGED, outcome)
        return outcome

    def delete(
        self, shown: Shown, sites: Collection[str], progress: Progress | None = None
    ) -> Outcome:
        """Remove what is known of jobs; those that wait or run are cancelled before."""
        with _telling(Outcome()) as outcome, self._letting_go(outcome) as taken:
            for records in self._chunks(shown, sites, (*OPEN, *ENDED), outcome, progress):
                self._cancelled(records, taken)
                removed = self._ledger.forget_all([one.message for one in records])
                for one, did in zip(records, removed, strict=True):
                    _count(one, None if did else CHANGED, outcome)
        return outcome

    def _chunks(
        self,
        shown: Shown,
        sites: Collection[str],
        fit: Collection[str],
        outcome: Outcome,
        progress: Progress | None,
    ) -> Iterator[list[Record]]:
        """The jobs as they are now, so many at a time; without those that are to be skipped."""
        ids, dealt_with = iter(shown.statuses), 0
        while some := [*islice(ids, CHUNK)]:
            fitting = []
            for message_id, record in zip(some, self._ledger.read_heads(some), strict=True):
                was = shown.statuses[message_id]
                if record is None or record.message.site not in sites:
                    outcome.skipped[GONE] += 1
                elif was not in fit:
                    outcome.skipped[UNFIT] += 1
                elif record.status != was:
                    outcome.skipped[CHANGED] += 1
                else:
                    fitting.append(record)
            if fitting:
                yield fitting
            dealt_with += len(some)
            if progress:
                progress(dealt_with, len(shown.statuses))

    def _cancelled(self, records: Sequence[Record], taken: list[Message]) -> set[str]:
        """End those of the jobs that wait or run; the ids of the messages that this call ended."""
        waiting = [one.message for one in records if one.status == QUEUED]
        did = self._ledger.cancel(waiting, "cancelled", waiting_only=True) if waiting else []
        ended = [*compress(waiting, did)]
        taken += ended
        running = (one.message for one in records if one.status == STARTED)
        return {one.id for one in (*ended, *filter(self._jobs.stop, running))}

    @contextmanager
    def _letting_go(self, outcome: Outcome) -> Iterator[list[Message]]:
        """Gives a list for cancelled messages; at last takes them from the broker.

        Only where that takes no long search: a worker drops what is left.
        """
        taken: list[Message] = []
        try:
            yield taken
        finally:
            queues = {one.queue for one in taken} if self._broker.is_searchable else set()
            short = {one for one in queues if self._broker.depth(one) <= LONGEST_SEARCHED}
            found = self._jobs.let_go(taken, [one for one in taken if one.queue in short])
            outcome.left_behind += len(taken) - found


@contextmanager
def _telling(outcome: Outcome) -> Iterator[Outcome]:
    try:
        yield outcome
    except BrokerError as error:
        raise error.about(**error.details, outcome=outcome) from None


def _count(record: Record, left: str | None, outcome: Outcome) -> None:
    """Count it as done, or as left for that reason."""
    if left is None:
        outcome.done.append(record.message.job_id)
    else:
        outcome.skipped[left] += 1
