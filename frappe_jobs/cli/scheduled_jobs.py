"""Look at the sites' scheduled jobs and change them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from frappe_jobs import runtime
from frappe_jobs.cli import completion
from frappe_jobs.cli.options import (
    Bench,
    Group,
    format_option,
    known_queues,
    pass_bench,
    show,
    with_site,
)
from frappe_jobs.rows import schedule_changes
from frappe_jobs.rows.scheduled_jobs import COLUMNS, coming, find, queue_now, row, rows


@click.group("scheduled-jobs", cls=Group)
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
@click.argument("name", shell_complete=completion.scheduled_jobs)
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
@click.argument("method", shell_complete=completion.methods)
@click.option("--frequency", required=True, help='Such as "Daily", "Hourly Long" or "Cron".')
@click.option("--cron", default="", help="The expression of a Cron job.")
@click.option("--against", default="", help="The doctype that it is made for.")
@with_site
@pass_bench
def add(bench: Bench, method: str, frequency: str, cron: str, against: str) -> None:
    """Schedule METHOD; the job belongs to a Scheduler Event, so migrate leaves it alone."""
    here = runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        click.echo(schedule_changes.add(here, site, method, frequency, cron, against))


@scheduled_jobs.command()
@click.argument("name", shell_complete=completion.scheduled_jobs)
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
    _change(bench, name, **{key: value for key, value in values.items() if value is not None})


def _set_stopped(name: str, value: bool, doc: str) -> None:
    @scheduled_jobs.command(name, help=doc)
    @click.argument("job", shell_complete=completion.scheduled_jobs)
    @with_site
    @pass_bench
    def command(bench: Bench, job: str) -> None:
        _change(bench, job, stopped=value)


_set_stopped("stop", True, "Stop queueing it, until it is started again.")
_set_stopped("start", False, "Queue it when it is due again.")


@scheduled_jobs.command()
@click.argument("name", shell_complete=completion.scheduled_jobs)
@with_site
@pass_bench
def run(bench: Bench, name: str) -> None:
    """Queue it once, now; its next due time stays."""
    _run(bench, name)


@click.command("trigger-scheduler-event")
@click.argument("method", shell_complete=completion.methods)
@with_site
@pass_bench
def trigger_scheduler_event(bench: Bench, method: str) -> None:
    """Queue the scheduled job of METHOD once, now."""
    _run(bench, method)


@scheduled_jobs.command()
@click.argument("name", shell_complete=completion.scheduled_jobs)
@with_site
@pass_bench
def delete(bench: Bench, name: str) -> None:
    """Remove it and its logs; if an app's hooks name it, the next migrate makes it again."""
    here = runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        schedule_changes.delete(here, site, name)


def _change(bench: Bench, name: str, **values: Any) -> None:
    here = runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        schedule_changes.change(here, site, name, **values)


def _run(bench: Bench, name: str) -> None:
    here = runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        click.echo(queue_now(here, site, name))
