"""Look at jobs, retry, cancel and delete them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from frappe_jobs import runtime
from frappe_jobs.cli.filters import filter_options
from frappe_jobs.cli.options import (
    Bench,
    format_option,
    known_queues,
    pass_bench,
    show,
    with_site,
)
from frappe_jobs.errors import JobError, JobNotFound
from frappe_jobs.job import Job
from frappe_jobs.ledger.record import FAILED, Record
from frappe_jobs.ledger.search import LONGEST_PAGE
from frappe_jobs.rows.jobs import COLUMNS, more, row
from frappe_jobs.rows.values import shown_value
from frappe_jobs.texts.error_text import bounded, safe

#: The columns that a line of a terminal has room for.
NARROW = ("id", "name", "site", "queue", "status", "attempt", "enqueued_at", "reason")

#: Characters of a value that are shown to people; --format json has the whole.
LONGEST_SHOWN = 10_000

#: Jobs that a list looks at, about; then it says where it goes on.
FARTHEST = 200_000

ids_argument = click.argument("ids", metavar="ID...", nargs=-1, required=True)


def find_records(bench: Bench, ids: Sequence[str]) -> list[Record]:
    """The records of these ids on the chosen sites; raises JobNotFound if one is on no site."""
    listing = runtime.use(bench.settings.sites_path).listing
    records: list[Record] = []
    sites = bench.chosen_sites()
    for name in ids:
        found = [record for site in sites if (record := listing.find(site, name))]
        if not found:
            raise JobNotFound(f"No job {name!r} is known on {', '.join(sites)}.")
        records += found
    return records


def find_jobs(bench: Bench, ids: Sequence[str]) -> list[Job]:
    """The jobs of these ids on the chosen sites; raises JobNotFound if one is on no site."""
    return [runtime.current().jobs.of(record) for record in find_records(bench, ids)]


@with_site
@click.group()
def jobs() -> None:
    """Look at jobs, retry, cancel, delete them."""


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
    show(rows, COLUMNS if style == "json" else NARROW, style)
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
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--failed", is_flag=True, help="All failed jobs of the site.")
@click.option("--queue", callback=known_queues, help="With --failed: only of these queues.")
@click.option("--from-start", is_flag=True, help="Do the steps that are done once more.")
@with_site
@pass_bench
def retry(
    bench: Bench, ids: tuple[str, ...], failed: bool, queue: list[str], from_start: bool
) -> None:
    """Run ended jobs once more, with the same ids and arguments.

    One that has not finished goes on behind the steps and rows that it has done.
    """
    if failed == bool(ids) or (queue and not failed):
        raise click.UsageError("Give the jobs' ids, or --failed (with --queue, if you like).")
    if failed:
        here = runtime.use(bench.settings.sites_path)
        found = here.listing.latest(bench.chosen_sites(), [FAILED], queue)
        again = [here.jobs.of(record) for record in [*found]]
    else:
        again = find_jobs(bench, ids)
    for job in again:
        click.echo(f"Queued again: {job.requeue(from_start=from_start).id}")
    if not again:
        click.echo("No failed jobs.")


@jobs.command()
@ids_argument
@with_site
@pass_bench
def cancel(bench: Bench, ids: tuple[str, ...]) -> None:
    """End jobs without their effect: a running job is killed."""
    late = []
    for job in find_jobs(bench, ids):
        if job.cancel():
            click.echo(f"Cancelled: {job.id}")
        else:
            late.append(f"{job.id} ({job.status})")
    if late:
        raise JobError(f"It was too late to cancel {', '.join(late)}.")


@jobs.command()
@ids_argument
@with_site
@pass_bench
def delete(bench: Bench, ids: tuple[str, ...]) -> None:
    """Remove what is known of jobs; those that wait or run are cancelled."""
    for job in find_jobs(bench, ids):
        job.delete()
        click.echo(f"Deleted: {job.id}")


@jobs.command()
@click.argument("name", metavar="ID")
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
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = bounded(safe(text), LONGEST_SHOWN)
    return "\n" + text.rstrip() if "\n" in text else text
