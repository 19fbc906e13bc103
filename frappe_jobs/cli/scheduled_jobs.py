"""Look at the sites' scheduled jobs and change them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from frappe_jobs import api, runtime
from frappe_jobs.cli.options import (
    Bench,
    format_option,
    known_queues,
    pass_bench,
    show,
    with_site,
)
from frappe_jobs.rows.scheduled_jobs import COLUMNS, DOCTYPE, coming, find, queue_now, row, rows


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
    found = [one for site in bench.chosen_sites() for one in rows(here, site)]
    show(sorted(found, key=_next_time), COLUMNS, style)


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
    found = []
    for site in bench.chosen_sites():
        job = find(here, site, name)
        its = row(site, job, here.timetable.of_site(site), here.sync.of(site).zone())
        found.append(its | coming(here, site, job, times))
    if style == "json":
        click.echo(json.dumps(found, indent=1))
        return
    for number, its in enumerate(found):
        lines = [
            f"{column + ':':<15} {value if value not in (None, '') else '-'}"
            for column, values in its.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        click.echo("\n" * bool(number) + "\n".join(lines))


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
        job = find(here, site, name)
        with api.site(site):
            yield api.get_doc(DOCTYPE, job.name)


def _run(bench: Bench, name: str) -> None:
    here = runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        click.echo(queue_now(here, site, name))
