"""What becomes of jobs that a transaction has committed: nothing is raised, each is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import FrappeJobsError, QueueOverloaded
from frappe_jobs.job import Job
from frappe_jobs.message import Sending

#: Why a job is never sent.
TAKEN = "a job of its id waits or runs"
CANCELLED_BEFORE = "it was cancelled before"

#: By message id the job, or why it is never sent; of what is in neither state, nothing.
Outcomes = Mapping[str, Job | str]

#: Who hears of them, of the error by which the others are not sent, and whether they are later.
Told = Callable[[Outcomes, FrappeJobsError | None, bool], None]


def send(
    dispatcher: Dispatcher, sendings: Sequence[Sending]
) -> tuple[dict[str, Job | str], FrappeJobsError | None]:
    """Send them, in order; those of a queue that is full wait, and the others do not."""
    if not sendings:
        return {}, None
    try:
        return _outcomes(sendings, dispatcher.dispatch(sendings)), None
    except QueueOverloaded as error:
        queues = dict.fromkeys(one.message.queue for one in sendings)
        if len(queues) == 1:
            return {}, error
        sent: dict[str, Job | str] = {}
        first: FrappeJobsError | None = None
        for queue in queues:
            its, why = send(dispatcher, [one for one in sendings if one.message.queue == queue])
            sent |= its
            first = first or why
        return sent, first
    except FrappeJobsError as error:
        return {job.message_id: job for job in error.details.get("sent", ())}, error


def _outcomes(sendings: Sequence[Sending], jobs: Sequence[Job | None]) -> dict[str, Job | str]:
    found = zip(sendings, jobs, strict=True)
    return {one.message.id: TAKEN if job is None else job for one, job in found}
