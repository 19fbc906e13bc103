"""One job: all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from frappe_jobs.doctor.text import number
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
#: Characters of why an earlier attempt failed.
NOTE = 300


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
        "timeline": [*timeline(record), *held(view, record)],
        "editable": editable(record.message),
        "is_open": record.status in OPEN,
        "retry": record.message.retry,
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
    """What has happened to it: each attempt with its start and its end, as far as they are kept."""
    message = record.message
    events = [Event("Enqueued", message.enqueued_at, f"by {message.user}, to {message.queue}")]
    is_over = record.status == QUEUED  # the newest attempt is among those before, and it waits
    if forgotten := max(0, record.attempt - len(record.attempts) - (not is_over)):
        events.append(
            Event(f"{number(forgotten, 'earlier attempt')}, of which nothing is kept", None)
        )
    for one in record.attempts:
        events.append(_begin(one["attempt"], one.get("started_at"), one.get("worker")))
        events.append(Event(f"Attempt {one['attempt']} failed", one.get("ended_at"),
                            bounded(one.get("reason") or "", NOTE)))  # fmt: skip
    if record.started_at and not is_over:
        events.append(_begin(record.attempt, record.started_at, record.worker))
    if record.due and record.status == QUEUED:
        what = "The next attempt is due" if record.attempt else "It is due"
        events.append(Event(what, record.due))
    if record.ended_at:
        events.append(Event(record.status.capitalize(), record.ended_at, record.reason or ""))
    elif record.status == STARTED:
        events.append(Event("It runs", None, record.stage or ""))
    return events


def held(view: View, record: Record) -> Iterator[Event]:
    """What keeps it waiting, beside the jobs before it."""
    if record.status != QUEUED:
        return
    if record.limited:
        what, _, value = record.limited.partition("|")
        since = record.limited_since
        yield Event("It waits: a limit has no room for it", since, f"{what} {value}".strip())
    for pause in view.here.ledger.pauses():
        if pause.holds(record.message):
            yield Event(f"It waits: {pause.name} is paused", pause.since)


def _begin(attempt: int, at: float | None, worker: str | None) -> Event:
    return Event(f"Attempt {attempt} began", at, f"on {worker}" if worker else "")


PAGE = Page("/job", "Job", "job.html", read, in_menu=False)
