"""One job: all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from frappe_jobs.job import Job
from frappe_jobs.ledger.record import OPEN, QUEUED, STARTED, Record
from frappe_jobs.rows.jobs import more, row
from frappe_jobs.texts.error_text import bounded
from frappe_jobs.texts.masking import without_secrets
from frappe_jobs.web.editing import editable
from frappe_jobs.web.looks import address, desk_of
from frappe_jobs.web.tree import frames, tree
from frappe_jobs.web.view import NotHere, Page, View

#: Characters of a traceback.
LONGEST = 20_000
#: Calls of a traceback that are shown at once, the last ones.
FRAMES = 8


@dataclass(frozen=True)
class Event:
    """A point of a job's road."""

    what: str
    at: float | None
    note: str = ""


def find(view: View) -> Record:
    """The job that the address names; raises NotHere, alike for a site that they may not see."""
    site, name = view.site(), view.one_of("id")
    record = view.here.listing.find(site, name) if name else None
    if record is None:
        raise NotHere
    return record


def read(view: View) -> Mapping[str, Any]:
    record = find(view)
    job = view.here.jobs.of(record)
    its = row(job) | more(record, job)
    traceback = bounded(record.traceback, LONGEST) if record.traceback else None
    return {
        "heading": bounded(job.name, 300),
        "job": its,
        "arguments": tree(without_secrets(its["arguments"])),
        "result": None if record.result is None else tree(without_secrets(its["result"])),
        "traceback": traceback,
        "frames": frames(traceback or "", str(view.here.settings.sites_path.parent)),
        "shown_frames": FRAMES,
        "timeline": timeline(record),
        "editable": editable(record.message),
        "is_open": record.status in OPEN,
        "retry": record.message.retry,
        "waits": record.status == QUEUED,
        "due": record.due,
        "task_link": _task_link(view, job),
        "error_log": _error_log(view, job),
    }


def _task_link(view: View, job: Job) -> str:
    """Its Background Task: in the Desk if we know where that is, else among ours."""
    if desk := _desk(view, job.site):
        return f"{desk}/background-task/{quote(str(job.task_id))}"
    return address("/tasks", site=job.site) + f"#{job.task_id}"


def _error_log(view: View, job: Job) -> str | None:
    """The site's Error Log of its method, where Frappe keeps one."""
    desk = _desk(view, job.site) if job.traceback else None
    return desk and address(f"{desk}/error-log", method=job.method)


def _desk(view: View, site: str) -> str | None:
    if view.desk or not view.here.is_bench:
        return view.desk
    return desk_of(view.here.settings.sites.config(site))


def timeline(record: Record) -> list[Event]:
    """What has happened to it, as far as it is kept: of several attempts only the last's start."""
    message = record.message
    events = [Event("Enqueued", message.enqueued_at, f"by {message.user}, to {message.queue}")]
    if record.attempt > 1:
        events.append(Event(f"{record.attempt - 1} earlier attempts", None, _died(record)))
    if record.started_at:
        on = f"on {record.worker}" if record.worker else ""
        events.append(Event(f"Attempt {record.attempt} began", record.started_at, on))
    if record.due and record.status == QUEUED:
        what = "The next attempt is due" if record.attempt else "It is due"
        events.append(Event(what, record.due))
    if record.ended_at:
        events.append(Event(record.status.capitalize(), record.ended_at, record.reason or ""))
    elif record.status == STARTED:
        events.append(Event("It runs", None, record.stage or ""))
    return events


def _died(record: Record) -> str:
    return f"{record.died} of them ended with their process" if record.died else ""


PAGE = Page("/job", "Job", "job.html", read, in_menu=False)
