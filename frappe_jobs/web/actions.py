"""What people do on the pages: each action's role, and what it does; every one is noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from frappe_jobs.errors import FrappeJobsError, JobError, NotSupportedByBroker
from frappe_jobs.job import Job
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.rows.bulk import DEEDS, told
from frappe_jobs.web import editing, mending, scheduled
from frappe_jobs.web.access import ADMIN, OPERATOR
from frappe_jobs.web.audit import Deed
from frappe_jobs.web.looks import address
from frappe_jobs.web.pages.bulk import ROLES, shown_to, sites_of
from frappe_jobs.web.pages.job import find
from frappe_jobs.web.runs import Lasting
from frappe_jobs.web.view import NotHere, View


@dataclass(frozen=True)
class Done:
    """What was done: what to say of it, and where to go on."""

    said: str
    to: str
    #: What goes on after that.
    lasting: Lasting | None = None


def thing_of(view: View) -> str:
    """What the form names."""
    return view.one_of("id") or view.one_of("name") or ""


@dataclass(frozen=True)
class Action:
    """One action: who may do it, and what it does to what the form names."""

    role: str
    act: Callable[[View], Done]
    #: To what, as the audit says.
    thing: Callable[[View], str] = thing_of


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
    return lambda view: Done(act(view), address("/schedule", site=view.named_site))


def mend(view: View) -> Done:
    return Done(mending.mend(view), "/doctor")


def pause(view: View) -> Done:
    """Raises NotHere for who sees only some sites: a queue is everybody's."""
    one = queue_of(view)
    if why := view.here.broker.why_no_pause(of_site=False):
        raise NotSupportedByBroker(why)
    view.here.ledger.pause([one])
    view.picture.served.forget()
    return Done(f"{one.name} is paused: what runs goes on, what waits keeps its place.", "/queues")


def resume(view: View) -> Done:
    one = queue_of(view)
    view.here.ledger.end_pauses([one])
    view.here.broker.pause_ended([str(one.queue)])
    view.picture.served.forget()
    return Done(f"{one.name} goes on.", "/queues")


def queue_of(view: View) -> Pause:
    if not view.person.sees_all:
        raise NotHere
    return Pause(view.here.settings.queue(thing_of(view)).name, None)


def many(name: str) -> Action:
    """An action on the jobs that a form's word stands for."""
    deed = DEEDS[name]

    def act(view: View) -> Done:
        shown, word, sites = shown_to(view), view.one_of("word") or "", view.sites
        lasting = Lasting(
            word, len(shown.statuses), sites_of(shown),
            partial(deed.act, view.here.bulk, shown, sites), partial(told, said=deed.said),
        )  # fmt: skip
        return Done("", address("/bulk", do=name, word=word), lasting)

    return Action(ROLES[name], act, many_in_words)


def many_in_words(view: View) -> str:
    """How many jobs, and which, for the audit."""
    shown = shown_to(view)
    kinds = sorted(shown.counts.items(), key=lambda one: (-one[1], one[0]))
    which = [f"{count:,} {status} {method} of {site}" for (site, status, _, method), count in kinds]
    said = ", ".join(which[:3]) + (", …" if which[3:] else "")
    return f"{len(shown.statuses):,} jobs: {said}"


ACTIONS = {
    **{f"bulk-{name}": many(name) for name in DEEDS},
    "retry": Action(OPERATOR, retry),
    "edit": Action(ADMIN, edit),
    "cancel": Action(OPERATOR, cancel),
    "delete": Action(ADMIN, delete),
    "run-now": Action(OPERATOR, of_schedule(scheduled.run_now)),
    "stop": Action(OPERATOR, of_schedule(scheduled.stop)),
    "start": Action(OPERATOR, of_schedule(scheduled.start)),
    "skip": Action(OPERATOR, of_schedule(scheduled.skip)),
    "add-schedule": Action(
        ADMIN, of_schedule(scheduled.add), lambda view: view.one_of("method") or ""
    ),
    "edit-schedule": Action(ADMIN, of_schedule(scheduled.edit)),
    "delete-schedule": Action(ADMIN, of_schedule(scheduled.delete)),
    "mend": Action(ADMIN, mend),
    "pause": Action(OPERATOR, pause),
    "resume": Action(OPERATOR, resume),
}


def noted(view: View, name: str, from_where: str) -> Done:
    """Note who does it, do it, and note what came of it; also that somebody tried.

    So there is no deed without an entry.  Raises what it raises; JobError where their role may not.
    """
    action, who = ACTIONS[name], view.person.name or "(not logged in)"
    site = view.named_site
    if not view.person.may(action.role):
        view.audit.note(Deed(who, name, site, thing_of(view), from_where, "refused"))
        raise JobError(f"That is for the role {action.role}; yours is {view.person.role}.")
    entry = view.audit.note(Deed(who, name, site, action.thing(view), from_where))
    end = partial(view.audit.end, entry)
    try:
        done = action.act(view)
        if done.lasting:
            view.runs.begin(done.lasting, end)
    except (FrappeJobsError, NotHere) as error:
        end(f"not done: {error}" if str(error) else "not done: there is no such thing")
        raise
    if not done.lasting:
        end(done.said)
    return done
