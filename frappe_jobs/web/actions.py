"""What people do on the pages: each action's role, and what it does; every one is noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from frappe_jobs.errors import FrappeJobsError, JobError
from frappe_jobs.job import Job
from frappe_jobs.web import editing, mending, scheduled
from frappe_jobs.web.access import ADMIN, OPERATOR
from frappe_jobs.web.audit import Deed
from frappe_jobs.web.looks import address
from frappe_jobs.web.pages.job import find
from frappe_jobs.web.view import View


@dataclass(frozen=True)
class Done:
    """What was done: what to say of it, and where to go on."""

    said: str
    to: str


@dataclass(frozen=True)
class Action:
    """One action: who may do it, and what it does to what the form names."""

    role: str
    act: Callable[[View], Done]


def job_of(view: View) -> Job:
    """Raises NotHere, alike for a job of a site that they may not see."""
    return view.here.jobs.of(find(view))


def page_of(job: Job) -> str:
    return address("/job", site=job.site, id=job.message_id)


def retry(view: View) -> Done:
    job = job_of(view)
    again = job.requeue(from_start=view.one_of("from_start") == "yes")
    return Done(f"Queued again: {again.id}", page_of(again))


def edit(view: View) -> Done:
    job = job_of(view)
    arguments = editing.checked(view.here, job, find(view).message, view.one_of("arguments") or "")
    again = job.requeue_with(arguments)
    return Done(f"Queued again, with other arguments: {again.id}", page_of(again))


def cancel(view: View) -> Done:
    job = job_of(view)
    if not job.cancel():
        raise JobError(f"It was too late to cancel {job.id} ({job.status}).")
    return Done(f"Cancelled: {job.id}", page_of(job))


def delete(view: View) -> Done:
    job = job_of(view)
    job.delete()
    return Done(f"Deleted: {job.id}", address("/jobs", site=job.site))


def of_schedule(act: Callable[[View], str]) -> Callable[[View], Done]:
    return lambda view: Done(act(view), address("/schedule", site=view.one_of("site")))


def mend(view: View) -> Done:
    return Done(mending.mend(view), "/doctor")


ACTIONS = {
    "retry": Action(OPERATOR, retry),
    "edit": Action(ADMIN, edit),
    "cancel": Action(OPERATOR, cancel),
    "delete": Action(ADMIN, delete),
    "run-now": Action(OPERATOR, of_schedule(scheduled.run_now)),
    "stop": Action(OPERATOR, of_schedule(scheduled.stop)),
    "start": Action(OPERATOR, of_schedule(scheduled.start)),
    "skip": Action(OPERATOR, of_schedule(scheduled.skip)),
    "mend": Action(ADMIN, mend),
}


def noted(view: View, name: str, from_where: str) -> Done:
    """Do it and note who did; also that somebody tried what is not theirs.

    Raises what it raises; JobError where their role may not.
    """
    action = ACTIONS[name]

    def note(outcome: str) -> None:
        deed = Deed(
            view.person.name or "(not logged in)", name, view.one_of("site") or "",
            view.one_of("id") or view.one_of("name") or "", outcome, from_where,
        )  # fmt: skip
        view.audit.note(deed)

    if not view.person.may(action.role):
        note("refused")
        raise JobError(f"That is for the role {action.role}; yours is {view.person.role}.")
    try:
        done = action.act(view)
    except FrappeJobsError as error:
        note(f"not done: {error}")
        raise
    note(done.said)
    return done
