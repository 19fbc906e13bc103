"""The queues of the bench: at a glance, paused and resumed."""

from __future__ import annotations

from collections.abc import Sequence

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
from frappe_jobs.errors import NotSupportedByBroker
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.rows.queues import COLUMNS, rows
from frappe_jobs.runtime import Runtime

names_argument = click.argument(
    "names", metavar="[QUEUES]", required=False, callback=known_queues,
    shell_complete=completion.queues,
)  # fmt: skip


@click.group(cls=Group, invoke_without_command=True)
@format_option
@pass_bench
@click.pass_context
def queues(context: click.Context, bench: Bench, style: str) -> None:
    """List the queues and what waits; pause and resume.

    Without a command: the list.
    """
    if context.invoked_subcommand is None:
        here = runtime.use(bench.settings.sites_path)
        show(rows(here, here.broker.consumers()), COLUMNS, style)


@queues.command()
@names_argument
@with_site
@pass_bench
def pause(bench: Bench, names: list[str]) -> None:
    """Have no worker take these queues' jobs, or one site's, until "resume"; what runs goes on.

    Queues are separated by commas. With --site only its jobs, in these queues or in all.
    """
    here = runtime.use(bench.settings.sites_path)
    wanted = _wanted(bench, names)
    if why := here.broker.why_no_pause(of_site=any(one.site for one in wanted)):
        raise NotSupportedByBroker(why)
    for one, is_new in zip(wanted, here.ledger.pause(wanted), strict=True):
        click.echo(f"{one.name}: {'is paused' if is_new else 'was paused already'}.")


@queues.command()
@names_argument
@with_site
@pass_bench
def resume(bench: Bench, names: list[str]) -> None:
    """End what "pause" has begun, for the same queues and site."""
    here = runtime.use(bench.settings.sites_path)
    wanted = _wanted(bench, names)
    for one, was in zip(wanted, here.ledger.end_pauses(wanted), strict=True):
        click.echo(f"{one.name}: {'goes on' if was else 'was not paused'}.")
    here.broker.pause_ended(names or here.settings.queues)
    _say_what_is_left(here, wanted)


@queues.command("file-back")
@pass_bench
def file_back(bench: Bench) -> None:
    """Put what waits for its turn or its time back where Celery's own workers find it.

    Before an older version, or "frappe_jobs_transport": "celery", takes over. Stop the workers
    first: they would file it again. Pauses are ended.
    """
    here = runtime.use(bench.settings.sites_path)
    here.ledger.end_pauses(here.ledger.pauses())
    moved, later = here.broker.file_back(), 0
    here.ledger.let_go_of_limited(here.settings.queues)
    for portion in here.ledger.for_later():
        # The message first: were it the other way round, a cut would leave a job without one.
        here.broker.send_for_later((one.message, float(one.score)) for one in portion)
        here.ledger.hand_over(portion)
        later += len(portion)
    click.echo(f"{moved} messages were put back, and {later} sent that wait for their time.")


def _wanted(bench: Bench, names: Sequence[str]) -> list[Pause]:
    sites = bench.named_sites()
    if not names and sites is None:
        raise click.UsageError("Which? Name queues, a site with --site, or both.")
    queues: Sequence[str | None] = names or [None]
    of_sites: Sequence[str | None] = sites or [None]
    return [Pause(queue, site) for queue in queues for site in of_sites]


def _say_what_is_left(here: Runtime, ended: Sequence[Pause]) -> None:
    """Name the other pauses that still hold back some of these jobs."""
    for left in here.ledger.pauses():
        if any(_meet(left, one) for one in ended):
            click.echo(f"{left.name} is still paused.")


def _meet(one: Pause, other: Pause) -> bool:
    pairs = (one.queue, other.queue), (one.site, other.site)
    return all(a is None or b is None or a == b for a, b in pairs)
