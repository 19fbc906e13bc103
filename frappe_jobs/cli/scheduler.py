"""The scheduler, and the sites' part in it."""

from __future__ import annotations

import click

from frappe_jobs import runtime
from frappe_jobs.celery.log import Log
from frappe_jobs.celery.scheduler import run_scheduler
from frappe_jobs.cli.logs import log_options
from frappe_jobs.cli.options import Bench, Group, format_option, pass_bench, show, with_site


@click.command()
@log_options
@pass_bench
def schedule(bench: Bench, log: Log) -> None:
    """Queue scheduled jobs when they are due.

    Runs until it is told to stop. Several may run: one leads, and another takes over within seconds
    (setting frappe_jobs_scheduler_lock). Prints "ready" on standard error once it runs.
    """
    here = runtime.use(bench.settings.sites_path)
    run_scheduler(here.app, here.in_force, log=log)


@click.group(cls=Group)
def scheduler() -> None:
    """Pause, resume, disable, enable the scheduler.

    For a site or for all of them; or show its state.
    """


def _switch(name: str, key: str, value: bool, said: str, doc: str) -> click.Command:
    """A command that sets one key of the sites' configuration."""

    @click.command(name, help=doc)
    @with_site
    @pass_bench
    def command(bench: Bench) -> None:
        for site in bench.chosen_sites():
            bench.settings.sites.write_config(site, {key: int(value)})
            click.echo(f"{site}: the scheduler {said}.")

    return command


DISABLE = "disable_scheduler", True, "is disabled", "Queue nothing."
ENABLE = "disable_scheduler", False, "is enabled", "Queue jobs again."

scheduler.add_command(
    _switch("pause", "pause_scheduler", True, "is paused", "Queue nothing for a while.")
)
scheduler.add_command(_switch("resume", "pause_scheduler", False, "goes on", "End the pause."))
scheduler.add_command(_switch("disable", *DISABLE))
scheduler.add_command(_switch("enable", *ENABLE))
disable_scheduler = _switch("disable-scheduler", *DISABLE)
enable_scheduler = _switch("enable-scheduler", *ENABLE)


@scheduler.command()
@format_option
@with_site
@pass_bench
def status(bench: Bench, style: str) -> None:
    """Say for each site whether its jobs are queued, and who leads."""
    here = runtime.use(bench.settings.sites_path)
    leader = here.timetable.leader()
    rows = [
        {"site": site, "scheduler": here.scheduling.inactive(site) or "active", "leader": leader}
        for site in bench.chosen_sites()
    ]
    show(rows, ("site", "scheduler", "leader"), style)


@click.command("set-maintenance-mode")
@click.argument("mode", type=click.Choice(["on", "off"]))
@with_site
@pass_bench
def set_maintenance_mode(bench: Bench, mode: str) -> None:
    """Put sites into maintenance mode, or take them out.

    While they are in it, no scheduled job is queued.
    """
    for site in bench.chosen_sites():
        bench.settings.sites.write_config(site, {"maintenance_mode": int(mode == "on")})
        click.echo(f"{site}: maintenance mode is {mode}.")
