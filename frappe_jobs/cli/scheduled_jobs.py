"""Look at the sites' scheduled jobs and change them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any

import click

from frappe_jobs import api, runtime
from frappe_jobs.cli.options import (
    Bench,
    format_option,
    iso_time,
    known_queues,
    pass_bench,
    show,
    with_site,
)
from frappe_jobs.errors import DoesNotExistError, FrappeJobsError, QueueOverloaded
from frappe_jobs.host.schedule_records import JobType
from frappe_jobs.scheduler.entry import Due
from frappe_jobs.scheduler.words import in_words

DOCTYPE = "Scheduled Job Type"
COLUMNS = (
    "name", "site", "method", "frequency", "cron_format", "queue", "stopped", "last_execution",
    "next_execution",
)  # fmt: skip


@click.group("scheduled-jobs")
def scheduled_jobs() -> None:
    """Look at scheduled jobs and change them.

    A job is given by its NAME, or by its method if that has only one schedule.
    """


@scheduled_jobs.command("list")
@format_option
@with_site
@pass_bench
def list_them(bench: Bench, style: str) -> None:
    """List the scheduled jobs, the next due first; times are in each site's zone."""
    here = runtime.use(bench.settings.sites_path)
    rows: list[dict[str, Any]] = []
    for site in bench.chosen_sites():
        entries, zone = here.timetable.of_site(site), here.sync.of(site).zone()
        rows += [_row(site, job, entries, zone) for job in here.host.schedule.job_types(site)]
    show(sorted(rows, key=_next_time), COLUMNS, style)


def _next_time(row: Mapping[str, Any]) -> float:
    """When it is due, as a number: texts of several time zones do not sort by time."""
    at = row["next_execution"]
    return datetime.fromisoformat(at).timestamp() if at else math.inf


@scheduled_jobs.command("show")
@click.argument("name")
@click.option("--times", type=click.IntRange(1, 100), default=5, show_default=True)
@format_option
@with_site
@pass_bench
def show_one(bench: Bench, name: str, times: int, style: str) -> None:
    """Show a scheduled job, what its schedule says in words, and its next times."""
    here = runtime.use(bench.settings.sites_path)
    rows = []
    for site in bench.chosen_sites():
        job = _job_type(here, site, name)
        row = _row(site, job, here.timetable.of_site(site), here.sync.of(site).zone())
        rows.append(row | _coming(here, site, job, times))
    if style == "json":
        click.echo(json.dumps(rows, indent=1))
        return
    for number, row in enumerate(rows):
        lines = [
            f"{column + ':':<15} {value if value not in (None, '') else '-'}"
            for column, values in row.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        click.echo("\n" * bool(number) + "\n".join(lines))


def _coming(here: runtime.Runtime, site: str, job: JobType, times: int) -> dict[str, Any]:
    try:
        when = in_words(here.sync.of(site).entry(job).schedule)
        due = here.sync.of(site).next_times(job, times)
    except FrappeJobsError as error:
        return {"when": f"never: {error}", "due": []}
    return {"when": when, "due": [at.isoformat() for at in due]}


@scheduled_jobs.command()
@click.argument("method")
@click.option("--frequency", required=True, help='Such as "Daily", "Hourly Long" or "Cron".')
@click.option("--cron", default="", help="The expression of a Cron job.")
@click.option("--against", default="", help="The doctype that it is made for.")
@with_site
@pass_bench
def add(bench: Bench, method: str, frequency: str, cron: str, against: str) -> None:
    """Schedule METHOD; the job belongs to a Scheduler Event, so migrate leaves it alone."""
    here = runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        with api.site(site):
            here.host.methods.resolve(method, site)
            event = api.new_doc("Scheduler Event", scheduled_against=against or method)
            event.method = method
            event.insert()
            job = api.new_doc(
                DOCTYPE, scheduler_event=event.name, frequency=frequency, cron_format=cron
            )
            click.echo(job.insert().name)


@scheduled_jobs.command()
@click.argument("name")
@click.option("--frequency")
@click.option("--cron", help="The expression of a Cron job.")
@click.option("--queue", callback=known_queues, help="Where it runs.")
@with_site
@pass_bench
def edit(
    bench: Bench, name: str, frequency: str | None, cron: str | None, queue: list[str]
) -> None:
    """Change when a scheduled job is due, or on which queue it runs."""
    values = {"frequency": frequency, "cron_format": cron, "queue": queue[0] if queue else None}
    for record in _records(bench, name):
        for field, value in values.items():
            if value is not None:
                setattr(record, field, value)
        record.save()


def _set_stopped(name: str, value: bool, doc: str) -> None:
    @scheduled_jobs.command(name, help=doc)
    @click.argument("job")
    @with_site
    @pass_bench
    def command(bench: Bench, job: str) -> None:
        for record in _records(bench, job):
            record.stopped = value
            record.save()


_set_stopped("stop", True, "Stop queueing it, until it is started again.")
_set_stopped("start", False, "Queue it when it is due again.")


@scheduled_jobs.command()
@click.argument("name")
@with_site
@pass_bench
def run(bench: Bench, name: str) -> None:
    """Queue it once, now; its next due time stays."""
    _run(bench, name)


@click.command("trigger-scheduler-event")
@click.argument("method")
@with_site
@pass_bench
def trigger_scheduler_event(bench: Bench, method: str) -> None:
    """Queue the scheduled job of METHOD once, now."""
    _run(bench, method)


@scheduled_jobs.command()
@click.argument("name")
@with_site
@pass_bench
def delete(bench: Bench, name: str) -> None:
    """Remove it and its logs; if an app's hooks name it, the next migrate makes it again."""
    for record in _records(bench, name):
        record.delete()


def _records(bench: Bench, name: str) -> Iterator[Any]:
    """The record on each chosen site, with the site open; changes are committed after each."""
    here = runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        job = _job_type(here, site, name)
        with api.site(site):
            yield api.get_doc(DOCTYPE, job.name)


def _run(bench: Bench, name: str) -> None:
    here = runtime.use(bench.settings.sites_path)
    now = here.timetable.now()
    for site in bench.chosen_sites():
        job = _job_type(here, site, name)
        _, full = here.scheduling.queue([Due(here.sync.of(site).entry(job), now)], now)
        if full:
            raise QueueOverloaded(f"{site}: {job.method} is not queued: {job.queue!r} is full.")
        # Said also if it was queued before: it is not queued twice.
        click.echo(f"{site}: {job.method} is queued.")


def _job_type(here: runtime.Runtime, site: str, name: str) -> JobType:
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


def _row(site: str, job: JobType, entries: Any, zone: tzinfo) -> dict[str, Any]:
    known = entries.get(job.name)
    last = job.last_execution
    return {
        "name": job.name, "site": site, "method": job.method, "frequency": job.frequency,
        "cron_format": job.cron_format, "queue": job.queue, "stopped": job.stopped,
        "last_execution": iso_time(last.timestamp(), zone) if last else None,
        "next_execution": iso_time(known[1], zone) if known else None,
    }  # fmt: skip
