"""Send jobs that a transaction has committed: nothing is raised, and each one's fate is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import FrappeJobsError, QueueOverloaded
from frappe_jobs.job import Job
from frappe_jobs.message import Sending

#: Why a job is never sent.
TAKEN = "a job of its id waits or runs"
CANCELLED_BEFORE = "it was cancelled before"

#: By message id the job, or why it is never sent; a message that is still to be sent is left out.
Outcomes = Mapping[str, Job | str]

#: Called with the outcomes, the error that kept the others from being sent, and whether these are
#: sent later.
Told = Callable[[Outcomes, FrappeJobsError | None, bool], None]


def send(
    dispatcher: Dispatcher, sendings: Sequence[Sending]
) -> tuple[dict[str, Job | str], FrappeJobsError | None]:
    """Send them, in order; if a queue is full, only that queue's jobs wait."""
    if not sendings:
        return {}, None
    try:
        return _outcomes(sendings, dispatcher.dispatch(sendings)), None
    except QueueOverloaded as error:
        by_queue: dict[str, list[Sending]] = {}
        for sending in sendings:
            by_queue.setdefault(sending.message.queue, []).append(sending)
        if len(by_queue) == 1:
            return {}, error
        sent: dict[str, Job | str] = {}
        first: FrappeJobsError | None = None
        for of_queue in by_queue.values():
            its, why = send(dispatcher, of_queue)
            sent |= its
            first = first or why
        return sent, first
    except FrappeJobsError as error:
        return {job.message_id: job for job in error.details.get("sent", ())}, error


def _outcomes(sendings: Sequence[Sending], jobs: Sequence[Job | None]) -> dict[str, Job | str]:
    pairs = zip(sendings, jobs, strict=True)
    return {sending.message.id: TAKEN if job is None else job for sending, job in pairs}
