"""The command line: ``frappe-jobs``.

A command's module is imported only for that command, so ``--help`` is quick and needs neither
Celery nor an app.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from frappe_jobs import __version__, errors
from frappe_jobs.cli.options import Bench, Group, site_option

#: Each command: its module, whose function has its name, and its line in ``--help`` (its first
#: sentence).
COMMANDS = {
    "worker": ("worker", "Run the jobs of these queues."),
    "worker-pool": ("worker", "Run several groups of workers under one parent."),
    "enqueue": ("enqueue", "Have a worker run METHOD."),
    "execute": ("enqueue", "Run METHOD here and now, and commit."),
    "shell": ("shell", "Open a Python prompt on the site."),
    "jobs": ("jobs", "Look at jobs, retry, cancel, delete them."),
    "show-pending-jobs": ("pending", "Count the jobs that wait, by queue and method."),
    "purge-jobs": ("pending", "Remove jobs that wait; running jobs go on."),
    "ready-for-migration": ("pending", "Say whether no job of the site waits or runs."),
    "migrate": ("migrate", "Bring the schedules in line with the hooks."),
    "schedule": ("scheduler", "Queue scheduled jobs when they are due."),
    "scheduler": ("scheduler", "Pause, resume, disable, enable the scheduler."),
    "scheduled-jobs": ("scheduled_jobs", "Look at scheduled jobs and change them."),
    "trigger-scheduler-event": ("scheduled_jobs", "Queue the scheduled job of METHOD once, now."),
    "enable-scheduler": ("scheduler", "Queue jobs again."),
    "disable-scheduler": ("scheduler", "Queue nothing."),
    "set-maintenance-mode": ("scheduler", "Put sites into maintenance mode, or take them out."),
    "queues": ("queues", "List the queues and what waits; pause and resume."),
    "limits": ("limits", "List the limits, and put a change in force."),
    "stats": ("stats", "Say how many jobs ran, failed, and how long."),
    "check": ("check", "Answer a health probe."),
    "metrics": ("metrics", "Serve metrics for Prometheus."),
    "doctor": ("doctor", "Say what is wrong, and what cures it."),
    "settings": ("settings", "List the settings, and where each comes from."),
    "web": ("web", "Serve pages that show the bench in a browser."),
    "web-password": ("web", "Print a password's hash, for 'frappe_jobs_web'."),
    "setup": ("setup", "Write a process manager's file, or servers' rights."),
    "embedded": ("embedded", "Start or stop the embedded server."),
}


#: The page on it, where it is another than the one on the worker and the commands.
PAGE = "docs/worker.md"
PAGES = {
    **dict.fromkeys(("enqueue", "execute"), "docs/enqueue.md"),
    **dict.fromkeys(("jobs", "show-pending-jobs", "purge-jobs"), "docs/jobs.md"),
    **dict.fromkeys(
        ("migrate", "schedule", "scheduler", "scheduled-jobs", "trigger-scheduler-event",
         "enable-scheduler", "disable-scheduler", "set-maintenance-mode"), "docs/scheduler.md",
    ),
    **dict.fromkeys(("stats", "metrics"), "docs/monitoring.md"),
    "limits": "docs/order.md",
    **dict.fromkeys(("web", "web-password"), "docs/web.md"),
    **dict.fromkeys(("check", "setup"), "docs/deploy.md"),
    "doctor": "docs/doctor.md",
    "settings": "docs/settings.md",
    "embedded": "docs/quickstart.md",
}  # fmt: skip


def load(name: str) -> click.Command:
    """The command of that name in the table; raises ConfigError."""
    with errors.importing(f"The command {name}"):
        module = import_module(f"frappe_jobs.cli.{COMMANDS[name][0]}")
    command: click.Command = getattr(module, name.replace("-", "_"))
    command.epilog = f"More: {PAGES.get(name, PAGE)}"
    return command


class Exiting(click.Command):
    """A command whose errors of ours end it, with their exit status."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (errors.BrokerUnavailable, errors.DatabaseUnavailable) as error:
            fail(error, 69)  # EX_UNAVAILABLE
        except errors.FrappeJobsError as error:
            fail(error, 1)


class LazyGroup(Exiting, Group):
    """The commands of the table above, each imported on its first use."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return load(name) if name in COMMANDS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        for text in args:
            if not is_unicode(text):
                context.fail(f"{os.fsencode(text)!r} is not UTF-8.")
        return super().parse_args(context, args)


def is_unicode(text: str) -> bool:
    """Whether all its bytes were UTF-8: Python keeps the others as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def fail(error: Exception, status: int) -> None:
    """One line for people, and the status for scripts."""
    click.secho(f"Error: {error}", fg="red", err=True)
    sys.exit(status)


@click.group(
    "frappe-jobs",  # Celery's command line shows this name among its own commands
    cls=LazyGroup,
    epilog=f"More: {PAGE}, and docs/quickstart.md to begin with.",
    context_settings={"auto_envvar_prefix": "FRAPPE_JOBS", "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="frappe-jobs")
@site_option()
@click.option(
    "--embedded", is_flag=True, help="Use the sites folder's own server; start it if need be."
)
@click.pass_context
def main(context: click.Context, site: str | None, embedded: bool) -> None:
    """Frappe's background jobs on Celery.

    Works on the sites folder in SITES_PATH, else the current folder, else its "sites".
    """
    context.obj = Bench(site=site, embedded=embedded)


if __name__ == "__main__":
    main()
