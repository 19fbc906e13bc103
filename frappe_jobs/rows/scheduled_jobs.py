"""The sites' scheduled jobs: a row for each, its next times, and to queue one now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from frappe_jobs.errors import DoesNotExistError, FrappeJobsError, QueueOverloaded
from frappe_jobs.host.schedule_records import JobType
from frappe_jobs.rows.values import iso_time
from frappe_jobs.runtime import Runtime
from frappe_jobs.scheduler.entry import Due
from frappe_jobs.scheduler.words import in_words

DOCTYPE = "Scheduled Job Type"
COLUMNS = (
    "name", "site", "method", "frequency", "cron_format", "queue", "stopped", "last_execution",
    "next_execution",
)  # fmt: skip


def rows(here: Runtime, site: str) -> list[dict[str, Any]]:
    """A line for each of the site's, with times in its zone; raises DatabaseUnavailable."""
    entries, zone = here.timetable.of_site(site), here.sync.of(site).zone()
    return [row(site, job, entries, zone) for job in here.host.schedule.job_types(site)]


def row(site: str, job: JobType, entries: Mapping[str, Any], zone: tzinfo) -> dict[str, Any]:
    """Its line in a listing; ``entries`` are the timetable's of that site."""
    known = entries.get(job.name)
    last = job.last_execution
    return {
        "name": job.name, "site": site, "method": job.method, "frequency": job.frequency,
        "cron_format": job.cron_format, "queue": job.queue, "stopped": job.stopped,
        "last_execution": iso_time(last.timestamp(), zone) if last else None,
        "next_execution": iso_time(known[1], zone) if known else None,
    }  # fmt: skip


def coming(here: Runtime, site: str, job: JobType, times: int) -> dict[str, Any]:
    """When it is due, in words, and so many of its next times."""
    try:
        when = in_words(here.sync.of(site).entry(job).schedule)
        due = here.sync.of(site).next_times(job, times)
    except FrappeJobsError as error:
        return {"when": f"never: {error}", "due": []}
    return {"when": when, "due": [at.isoformat() for at in due]}


def find(here: Runtime, site: str, name: str) -> JobType:
    """The scheduled job of that name, else the only one of that method.

    Raises DoesNotExistError.
    """
    types = here.host.schedule.job_types(site)
    found = [job for job in types if name == job.name] or [
        job for job in types if name == job.method
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(job.name for job in found)) or "none"
    raise DoesNotExistError(
        f"{name!r} names {len(found)} scheduled jobs of {site}: {known}. See scheduled-jobs list."
    )


def queue_now(here: Runtime, site: str, name: str) -> str:
    """Queue it once, now; its next due time stays.  Gives what to say of it.

    Raises DoesNotExistError, QueueOverloaded.
    """
    now, job = here.timetable.now(), find(here, site, name)
    _, full = here.scheduling.queue([Due(here.sync.of(site).entry(job), now)], now)
    if full:
        raise QueueOverloaded(f"{site}: {job.method} is not queued: {job.queue!r} is full.")
    # Said also if it was queued before: it is not queued twice.
    return f"{site}: {job.method} is queued."
