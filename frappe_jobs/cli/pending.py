"""What waits: look at it, clear it away, ask whether a site may be migrated."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict

import click

from frappe_jobs.cli.jobs import make_listing
from frappe_jobs.cli.options import (
    Bench,
    format_option,
    known_queues,
    pass_bench,
    show,
    with_site,
)
from frappe_jobs.ledger.record import QUEUED, STARTED
from frappe_jobs.purge import cancel_waiting


@click.command("show-pending-jobs")
@format_option
@with_site
@pass_bench
def show_pending_jobs(bench: Bench, style: str) -> None:
    """Count the jobs that wait, by queue and method."""
    _, listing = make_listing(bench)
    rows = []
    for site in bench.chosen_sites():
        queues: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for record in listing.waiting([site]):
            queues[record.message.queue][record.message.method] += 1
        for queue, methods in sorted(queues.items()):
            said = ", ".join(f"{count} {method}" for method, count in methods.most_common())
            rows.append({
                "site": site, "queue": queue, "jobs": methods.total(),
                "methods": dict(methods.most_common()) if style == "json" else said,
            })  # fmt: skip
    show(rows, ("site", "queue", "jobs", "methods"), style)


@click.command("purge-jobs")
@click.option("--queue", callback=known_queues, help="Only of these queues, with commas.")
@click.option("--event", help="Only jobs that were enqueued with this event.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_site
@pass_bench
def purge_jobs(bench: Bench, queue: list[str], event: str | None, yes: bool) -> None:
    """Remove jobs that wait; what runs goes on."""
    here, listing = make_listing(bench)
    sites = bench.chosen_sites()
    found = [record.message for record in listing.waiting(sites, queue, event)]
    if found and not yes:
        click.confirm(f"Remove {len(found)} waiting jobs of {', '.join(sites)}?", abort=True)
    purged = cancel_waiting(found, "purged", ledger=here.ledger, broker=here.broker)
    click.echo(f"Purged {len(purged)} jobs.")


@click.command("ready-for-migration")
@with_site
@pass_bench
def ready_for_migration(bench: Bench) -> None:
    """Say whether no job of the site waits or runs.

    The exit status is 1 if one does."""
    _, listing = make_listing(bench)
    ready = True
    for site in bench.chosen_sites():
        count = listing.count_open(site)
        if count[QUEUED] or count[STARTED]:
            ready = False
            said = f"{count[QUEUED]} jobs wait, {count[STARTED]} run"
            click.echo(f"NOT READY for migration: of site {site} {said}")
        else:
            click.echo(f"READY for migration: no job of site {site} waits or runs")
    sys.exit(0 if ready else 1)
