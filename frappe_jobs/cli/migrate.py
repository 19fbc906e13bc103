"""Bring sites' schedules in line with their apps' hooks."""

from __future__ import annotations

from contextlib import nullcontext

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, one_line, pass_bench, progress, with_site
from frappe_jobs.errors import BrokerUnavailable, FrappeJobsError
from frappe_jobs.scheduler.sync import Plan, Sync


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@with_site
@pass_bench
def migrate(bench: Bench, dry_run: bool) -> None:
    """Bring the schedules in line with the hooks.

    Adds the scheduled jobs that are missing, removes those that no hook names any more, and says
    so; a second run changes nothing. A wrong hook is named, and the rest is done. So is a site that
    cannot be migrated: then the exit status is 1, after the other sites.
    """
    sync = runtime.use(bench.settings.sites_path).sync
    sites = bench.chosen_sites()
    failed = []
    with progress("Migrate") if len(sites) > 1 else nullcontext() as tell:
        for number, site in enumerate(sites, 1):
            if not _is_done(sync, site, dry_run, alone=len(sites) == 1):
                failed.append(site)
            if tell:
                tell(number, len(sites))
    if failed:
        what = f"{len(failed)} of {len(sites)} sites could not be migrated"
        raise FrappeJobsError(f"{what}: {', '.join(failed)}.")


def _is_done(sync: Sync, site: str, dry_run: bool, alone: bool) -> bool:
    """Migrate a site and say what was done; if it cannot be migrated, say why and give False."""
    try:
        _say(sync.of(site).plan() if dry_run else sync.migrate(site))
    except BrokerUnavailable:  # no site can be migrated
        raise
    except Exception as error:
        if alone and isinstance(error, FrappeJobsError):
            raise
        kind = "" if isinstance(error, FrappeJobsError) else f"{type(error).__name__}: "
        click.echo(one_line(f"{site}: not migrated: {kind}{error}"), err=True)
        return False
    return True


def _say(plan: Plan) -> None:
    for job in plan.add:
        click.echo(f"{plan.site}: added {job.method} ({job.cron_format or job.frequency})")
    for record, job in plan.change:
        click.echo(
            f"{plan.site}: changed {job.method} ({record.cron_format or record.frequency} is now "
            f"{job.cron_format or job.frequency})"
        )
    for record in plan.remove:
        click.echo(
            f"{plan.site}: removed {record.method} ({record.cron_format or record.frequency})"
        )
    for finding in plan.refused:
        click.echo(f"{plan.site}: refused: {finding.what} {finding.cure}", err=True)
    click.echo(
        f"{plan.site}: {len(plan.add)} added, {len(plan.change)} changed, "
        f"{len(plan.remove)} removed, "
        f"{len(plan.unchanged)} unchanged, {len(plan.refused)} refused."
    )
