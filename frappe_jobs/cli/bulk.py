"""Retry, cancel and delete jobs: by their ids, or all that filters find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from frappe_jobs import runtime
from frappe_jobs.bulk.actions import Outcome
from frappe_jobs.bulk.shown import LIMIT, Shown, look
from frappe_jobs.cli import completion
from frappe_jobs.cli.chosen import find_jobs
from frappe_jobs.cli.filters import filter_options
from frappe_jobs.cli.options import Bench, pass_bench, progress, show, with_site
from frappe_jobs.errors import JobError
from frappe_jobs.ledger.record import FAILED
from frappe_jobs.rows.bulk import DEEDS, Deed, told

OPTIONS = (
    click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=completion.job_ids),
    filter_options,
    click.option(
        "--limit", type=click.IntRange(0), default=LIMIT, show_default=True,
        help="With filters: so many at most; 0: all.",
    ),
    click.option("--dry-run", is_flag=True, help="With filters: only count the jobs."),
    click.option("--yes", is_flag=True, help="With filters: do not ask."),
)  # fmt: skip


def ids_or_filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the ids of jobs, and what chooses many of them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@ids_or_filters
@click.option("--failed", is_flag=True, help="All failed jobs, without a question.")
@click.option("--from-start", is_flag=True, help="Do the steps that are done once more.")
@with_site
@pass_bench
def retry(
    bench: Bench, /, ids: tuple[str, ...], failed: bool, from_start: bool, **asked: Any
) -> None:
    """Run ended jobs once more, with the same ids and arguments.

    One that has not finished goes on behind the steps and rows that it has done.  By filters: those
    that have failed, unless --status says otherwise.
    """
    if failed:
        asked |= {"statuses": (FAILED,), "yes": True, "limit": 0}
    if not _are_many(ids, asked):
        for job in find_jobs(bench, ids):
            click.echo(f"Queued again: {job.requeue(from_start=from_start).id}")
        return
    deed = DEEDS["retry"]
    if not (shown := _choose(bench, asked, deed)):
        return
    bulk, sites = runtime.current().bulk, bench.chosen_sites()
    with progress(deed.title) as tell:
        outcome = bulk.retry(shown, sites, tell, from_start=from_start)
    for name in outcome.done if failed else ():
        click.echo(f"Queued again: {name}")
    _tell(outcome, None if failed else deed.said)


@click.command()
@ids_or_filters
@with_site
@pass_bench
def cancel(bench: Bench, /, ids: tuple[str, ...], **asked: Any) -> None:
    """End jobs without their effect: a running job is killed."""
    if _are_many(ids, asked):
        _end_many(bench, asked, DEEDS["cancel"])
        return
    late = []
    for job in find_jobs(bench, ids):
        if job.cancel():
            click.echo(f"Cancelled: {job.id}")
        else:
            late.append(f"{job.id} ({job.status})")
    if late:
        raise JobError(f"It was too late to cancel {', '.join(late)}.")


@click.command()
@ids_or_filters
@with_site
@pass_bench
def delete(bench: Bench, /, ids: tuple[str, ...], **asked: Any) -> None:
    """Remove what is known of jobs; those that wait or run are cancelled.

    By filters: those that have ended, unless --status says otherwise.
    """
    if _are_many(ids, asked):
        _end_many(bench, asked, DEEDS["delete"])
        return
    for job in find_jobs(bench, ids):
        job.delete()
        click.echo(f"Deleted: {job.id}")


def _end_many(bench: Bench, asked: dict[str, Any], deed: Deed) -> None:
    if shown := _choose(bench, asked, deed):
        with progress(deed.title) as tell:
            outcome = deed.act(runtime.current().bulk, shown, bench.chosen_sites(), tell)
        _tell(outcome, deed.said)


def _are_many(ids: Sequence[str], asked: dict[str, Any]) -> bool:
    """Whether filters choose the jobs; a usage error unless either they or ids are given."""
    how = ("limit", "dry_run", "yes")
    filtered = any(value for name, value in asked.items() if name not in how)
    if filtered == bool(ids):
        raise click.UsageError(
            "Give either the jobs' ids, or filters: --status, --queue, --method, --user, --error, "
            "--since, --until."
        )
    return filtered


def _choose(bench: Bench, asked: dict[str, Any], deed: Deed) -> Shown | None:
    """What the filters find, once the user has agreed; None: nothing is to be done."""
    limit, dry_run, yes = (asked.pop(name) for name in ("limit", "dry_run", "yes"))
    asked["statuses"] = asked["statuses"] or deed.statuses
    search = runtime.use(bench.settings.sites_path).search(bench.chosen_sites(), **asked)
    shown = look(search, limit or None)
    if not shown.statuses:
        click.echo(f"No {' or '.join(asked['statuses'])} jobs.")
        return None
    if dry_run or not yes:
        columns = ("site", "status", "queue", "method", "jobs")
        rows = [dict(zip(columns, (*what, count))) for what, count in sorted(shown.counts.items())]
        show(rows, columns, "table")
        if shown.has_more:
            click.echo(f"There are more than these {limit:,}: --limit", err=True)
    if dry_run:
        return None
    if not yes:
        click.confirm(f"{deed.title} these {len(shown.statuses):,} jobs?", abort=True)
    return shown


def _tell(outcome: Outcome, said: str | None) -> None:
    for line in told(outcome, said):
        click.echo(line)
