"""Look at jobs, retry, cancel and delete them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import click

from frappe_jobs import runtime
from frappe_jobs.cli import bulk, completion
from frappe_jobs.cli.chosen import find_jobs, find_records
from frappe_jobs.cli.filters import filter_options
from frappe_jobs.cli.moments import due_at, moment_given, span_given
from frappe_jobs.cli.options import (
    Bench,
    Group,
    format_option,
    pass_bench,
    show,
    with_site,
)
from frappe_jobs.ledger.record import Record
from frappe_jobs.ledger.search import LONGEST_PAGE
from frappe_jobs.rows.jobs import COLUMNS, more, row
from frappe_jobs.rows.values import iso_time, shown_value
from frappe_jobs.texts.error_text import bounded, safe

#: The columns that a line of a terminal has room for.
NARROW = ("id", "name", "site", "queue", "status", "attempt", "enqueued_at", "reason")

#: Characters of a value that are shown to people; --format json has the whole.
LONGEST_SHOWN = 10_000

#: Jobs that a list looks at, about; then it says where it goes on.
FARTHEST = 200_000

ids_argument = click.argument(
    "ids", metavar="ID...", nargs=-1, required=True, shell_complete=completion.job_ids
)


@with_site
@click.group(cls=Group)
def jobs() -> None:
    """Look at jobs, retry, cancel, delete them."""


for _command in (bulk.retry, bulk.cancel, bulk.delete):
    jobs.add_command(_command)


@jobs.command("list")
@filter_options
@click.option(
    "--limit", type=click.IntRange(0), default=50, show_default=True, help="At most; 0: all."
)
@click.option("--cursor", help="Go on where a list has ended.")
@format_option
@with_site
@pass_bench
def list_jobs(bench: Bench, /, limit: int, cursor: str | None, style: str, **filters: Any) -> None:
    """List the site's jobs, latest first, by when they ended or else were enqueued."""
    here = runtime.use(bench.settings.sites_path)
    search = here.search(bench.chosen_sites(), **filters)
    records, looked = list[Record](), 0
    while True:
        size = min(limit - len(records), LONGEST_PAGE) if limit else LONGEST_PAGE
        page = search.page(cursor, size)
        records += page.records
        cursor, looked = page.cursor, looked + page.looked
        if cursor is None or limit and (len(records) >= limit or looked >= FARTHEST):
            break
    rows = [row(here.jobs.of(record)) for record in records]
    narrow = NARROW if not any(line["due"] for line in rows) else (*NARROW, "due")
    show(rows, COLUMNS if style == "json" else narrow, style)
    if cursor:
        said = f"Looked at {looked:,} jobs" if page.is_cut else "There are more"
        click.echo(f"{said}; to go on: --cursor {cursor}", err=True)


@jobs.command("show")
@ids_argument
@format_option
@with_site
@pass_bench
def show_jobs(bench: Bench, ids: tuple[str, ...], style: str) -> None:
    """Show all that is known of jobs: arguments, result, traceback.

    Of very long texts the head and the tail; --format json has the whole.
    """
    rows = [
        row(job := runtime.current().jobs.of(record)) | more(record, job)
        for record in find_records(bench, ids)
    ]
    if style == "json":
        click.echo(json.dumps(rows, indent=1, default=str))
        return
    for number, values in enumerate(rows):
        lines = [f"{name + ':':<13} {_readable(value)}" for name, value in values.items()]
        click.echo("\n" * bool(number) + "\n".join(lines))


@jobs.command()
@ids_argument
@click.option("--at", callback=moment_given, help="2026-12-01T08:30, by the site's clocks.")
@click.option("--in", "delta", callback=span_given, help="From now: 30m, 2h, 7d.")
@with_site
@pass_bench
def move(bench: Bench, ids: tuple[str, ...], at: datetime | None, delta: timedelta | None) -> None:
    """Have jobs that wait be due at another time; one that is over means now."""
    if (at is None) == (delta is None):
        raise click.UsageError("Say when: --at, or --in.")
    for job in find_jobs(bench, ids):
        when = due_at(at, delta, job.site)
        job.move(when)
        click.echo(f"{job.id} {iso_time(when.timestamp())}")


@jobs.command()
@click.argument("name", metavar="ID", shell_complete=completion.job_ids)
@click.option("--timeout", type=click.FloatRange(0), help="Seconds; default: as long as it takes.")
@with_site
@pass_bench
def wait(bench: Bench, name: str, timeout: float | None) -> None:
    """Wait for a job's end and print its result as JSON.

    Exit status 1 if it failed or was cancelled, or has not ended after the timeout.
    """
    for job in find_jobs(bench, [name]):
        click.echo(shown_value(job.wait(timeout)))


def _readable(value: Any) -> str:
    if value is None:
        return "-"
    if value and isinstance(value, list) and isinstance(value[0], dict):
        value = "\n".join(_attempt(one) for one in value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = bounded(safe(text), LONGEST_SHOWN)
    return "\n" + text.rstrip() if "\n" in text else text


def _attempt(one: dict[str, Any]) -> str:
    return f"{one['attempt']}: {one['started_at']} {one['worker']}: {one['reason']}"
