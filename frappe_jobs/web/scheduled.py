"""What is done with a scheduled job on its page."""

from __future__ import annotations

from datetime import datetime, timezone

from frappe_jobs import api
from frappe_jobs.errors import ScheduleError
from frappe_jobs.rows.scheduled_jobs import DOCTYPE, find, queue_now
from frappe_jobs.scheduler.entry import Due
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
    job = find(view.here, site, _name(view))
    with api.site(site):
        record = api.get_doc(DOCTYPE, job.name)
        record.stopped = value
        record.save()
    return f"{site}: {job.method} {said}."


def skip(view: View) -> str:
    """Leave out its next due time; the one after that comes."""
    site, timetable = view.site(), view.here.timetable
    job = find(view.here, site, _name(view))
    known = timetable.of_site(site).get(job.name)
    if not known:
        raise ScheduleError(f"{site}: {job.method} is not due: there is nothing to skip.")
    entry, at = known
    following = entry.next_run(datetime.fromtimestamp(at, timezone.utc)).timestamp()
    timetable.move([(Due(entry, at, following), following, following)])
    return f"{site}: {job.method} is not queued for {exact(at)}; the next is {exact(following)}."
