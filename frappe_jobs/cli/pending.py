"""Jobs that wait: count them, remove them, ask whether a site may be migrated."""

from __future__ import annotations

import sys
from collections import Counter
from threading import Event

import click

from frappe_jobs import runtime
from frappe_jobs.cli import completion
from frappe_jobs.cli.options import (
    Bench,
    format_option,
    known_queues,
    pass_bench,
    progress,
    show,
    with_site,
)

#: Jobs that are removed in one go: the broker's queues are searched once for each.
TOGETHER = 10_000
#: A site is ready that has no jobs so many times, and seconds between: a scheduler may queue some
#: until it knows of the site's maintenance mode.
LOOKS, PAUSE = 3, 1.0


@click.command("show-pending-jobs")
@format_option
@with_site
@pass_bench
def show_pending_jobs(bench: Bench, style: str) -> None:
    """Count the jobs that wait, by queue and method."""
    listing = runtime.use(bench.settings.sites_path).listing
    rows = [
        {"site": site, "queue": queue, "jobs": methods.total(), "methods": _shown(methods, style)}
        for site in bench.chosen_sites()
        for queue, methods in sorted(listing.pending(site).items())
    ]
    show(rows, ("site", "queue", "jobs", "methods"), style)


def _shown(methods: Counter[str], style: str) -> dict[str, int] | str:
    most_first = dict(methods.most_common())
    if style == "json":
        return most_first
    return ", ".join(f"{count} {method}" for method, count in most_first.items())


@click.command("purge-jobs")
@click.option(
    "--queue", callback=known_queues, shell_complete=completion.queues,
    help="Only these queues, separated by commas.",
)  # fmt: skip
@click.option("--event", help="Only jobs that were enqueued with this event.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_site
@pass_bench
def purge_jobs(bench: Bench, queue: list[str], event: str | None, yes: bool) -> None:
    """Remove jobs that wait; running jobs go on."""
    here = runtime.use(bench.settings.sites_path)
    sites = bench.chosen_sites()
    found = [record.message for record in here.listing.waiting(sites, queue, event)]
    if found and not yes:
        click.confirm(f"Remove {len(found)} waiting jobs of {', '.join(sites)}?", abort=True)
    purged = 0
    with progress("Remove") as tell:
        for start in range(0, len(found), TOGETHER):
            purged += len(here.jobs.cancel_waiting(found[start : start + TOGETHER], "purged"))
            if tell:
                tell(min(start + TOGETHER, len(found)), len(found))
    click.echo(f"Purged {purged} jobs.")


@click.command("ready-for-migration")
@with_site
@pass_bench
def ready_for_migration(bench: Bench) -> None:
    """Say whether no job of the site waits or runs.

    It looks three times, a second apart. The exit status is 1 if a job does.
    """
    listing = runtime.use(bench.settings.sites_path).listing
    ready, sites = True, bench.chosen_sites()
    looks = {site: listing.count_open(site) for site in sites}
    for _ in range(LOOKS - 1):
        if all(map(any, looks.values())):
            break
        Event().wait(PAUSE)
        looks |= {site: listing.count_open(site) for site in sites if not any(looks[site])}
    for site, (waiting, running) in looks.items():
        if waiting or running:
            ready = False
            said = f"site {site} has background jobs: {waiting} wait, {running} run"
            click.echo(f"NOT READY for migration: {said}")
        else:
            click.echo(f"READY for migration: site {site} has no background jobs")
    sys.exit(0 if ready else 1)
