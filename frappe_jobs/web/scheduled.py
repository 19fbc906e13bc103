"""What is done with a scheduled job on its page."""

from __future__ import annotations

from frappe_jobs.errors import ScheduleError
from frappe_jobs.rows import schedule_changes
from frappe_jobs.rows.scheduled_jobs import find, queue_now
from frappe_jobs.runtime import Runtime
from frappe_jobs.scheduler import queueing
from frappe_jobs.scheduler.queueing import name_of, next_due
from frappe_jobs.web.looks import exact
from frappe_jobs.web.view import NotHere, View


def _name(view: View) -> str:
    if name := view.one_of("name"):
        return name
    raise NotHere


def run_now(view: View) -> str:
    return queue_now(view.here, view.site(), _name(view))


def stop(view: View) -> str:
    return _set_stopped(view, True, "is stopped")


def start(view: View) -> str:
    return _set_stopped(view, False, "is queued again when it is due")


def _set_stopped(view: View, value: bool, said: str) -> str:
    site = view.site()
    return f"{site}: {schedule_changes.change(view.here, site, _name(view), stopped=value)} {said}."


def add(view: View) -> str:
    """Schedule a method of the site's apps; its record belongs to a Scheduler Event."""
    site, method = view.site(), view.one_of("method") or ""
    given = (view.one_of(name) or "" for name in ("frequency", "cron", "against"))
    schedule_changes.add(view.here, site, method, *given)
    return f"{site}: {method} is scheduled."


def edit(view: View) -> str:
    """Change when it is due, and where the host can say so in which queue it runs."""
    site = view.site()
    values = {"frequency": view.one_of("frequency") or "", "cron_format": view.one_of("cron") or ""}
    if queue := view.one_of("queue"):
        values["queue"] = queue
    return f"{site}: {schedule_changes.change(view.here, site, _name(view), **values)} is changed."


def delete(view: View) -> str:
    site = view.site()
    return (
        f"{site}: {schedule_changes.delete(view.here, site, _name(view))} is no longer scheduled."
    )


def skip(view: View) -> str:
    """Leave out its next due time, as if it had been queued; the one after that comes."""
    site = view.site()
    job = find(view.here, site, _name(view))
    due = next_due(view.here.timetable.stored(site).get(job.name))
    if due is None:
        raise ScheduleError(f"{site}: {job.method} is not due: there is nothing to skip.")
    if not queueing.skip(view.here.ledger, due):
        raise ScheduleError(f"{site}: {job.method} is not queued for {exact(due.at)} anyway.")
    return f"{site}: {job.method} is not queued for {exact(due.at)}."


def skipped(here: Runtime, site: str) -> set[str]:
    """The names of the site's scheduled jobs whose next due time is skipped."""
    dues = {name: next_due(stored) for name, stored in here.timetable.stored(site).items()}
    known = {name: name_of(due) for name, due in dues.items() if due}
    found = here.ledger.are_skipped([*known.values()])
    return {name for name, is_skipped in zip(known, found, strict=True) if is_skipped}
