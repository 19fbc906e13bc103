"""The commands of a Frappe bench that are ours; Frappe imports this file for every one of its own.

So it imports nothing that takes time: a command's own module is loaded when it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from frappe_jobs.cli import COMMANDS, fail
from frappe_jobs.cli.options import Bench
from frappe_jobs.errors import BrokerUnavailable, DatabaseUnavailable, FrappeJobsError
from frappe_jobs.frappe_bench.way_in import OFF
from frappe_jobs.sites_folder import read_common

WAY_IN = "frappe_jobs.frappe_bench.way_in"


#: What Frappe's own code leaves in a process is little, but never less: it is replaced in time.
JOBS_PER_PROCESS = 2000


class BenchCommand(click.Command):
    """One of our commands among Frappe's: its options and ours, its exit statuses."""

    def __init__(self, name: str, ignored: Sequence[click.Option] = ()) -> None:
        super().__init__(name, short_help=COMMANDS[name][1])
        self._ignored = ignored

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        module, _, function = COMMANDS[str(self.name)][0].partition(":")
        command: click.Command = getattr(import_module(f"frappe_jobs.cli.{module}"), function)
        self.params, self.callback, self.help = (
            [*command.params, *self._ignored], command.callback, command.help,
        )  # fmt: skip
        site = parent.params.get("site") if parent else None
        try:
            bench = Bench(site=site or None, embedded=False)
            return super().make_context(info_name, args, parent, obj=bench, **extra)
        except FrappeJobsError as error:
            fail(error, 1)
            raise

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (BrokerUnavailable, DatabaseUnavailable) as error:
            fail(error, 69)
        except FrappeJobsError as error:
            fail(error, 1)


class ServingCommand(BenchCommand):
    """One that serves the queues or the clock: where nobody has said yet, the bench is ours now."""

    def invoke(self, context: click.Context) -> Any:
        way_in = import_module(WAY_IN)
        if way_in.switch_on(Path.cwd()):
            click.echo("frappe_jobs: this bench's jobs go to Celery from now on.", err=True)
        way_in.use_celery()
        if "max_jobs" in context.params:
            context.params["max_jobs"] = context.params["max_jobs"] or JOBS_PER_PROCESS
        try:
            return super().invoke(context)
        except SystemExit as ended:
            if context.params.get("burst") and not ended.code:
                # Past sys.stdout, where Celery's log is by now; scripts look for RQ's last word.
                os.write(1, b"the queues are empty, quitting\n")
            raise


class PurgeCommand(BenchCommand):
    """As Frappe's: it does not ask, and without a site it means all of them."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        context = super().make_context(*args, **extra)
        context.params["yes"] = True
        context.obj.site = context.obj.site or os.environ.get("FRAPPE_SITE") or "all"
        return context


class DoctorOnRQ(click.Command):
    """Frappe's own doctor; after it what is wrong between RQ and what is left of ours."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        frappes: click.Command = import_module("frappe.commands.scheduler").doctor
        self.params, self.callback, self.help = frappes.params, frappes.callback, frappes.help
        return super().make_context(*args, **extra)

    def invoke(self, context: click.Context) -> Any:
        done = super().invoke(context)
        import_module("frappe_jobs.cli.doctor").say_what_is_left(Path.cwd())
        return done


def _of_rq(*names: str, **options: Any) -> click.Option:
    """An option that only RQ's workers have a use for: taken, with a word about it."""

    def warn(_: click.Context, option: click.Parameter, value: Any) -> None:
        if value:
            click.echo(f"{option.opts[-1]} is for RQ's workers; it is ignored.", err=True)

    return click.Option(names, expose_value=False, callback=warn, help="RQ only.", **options)


@click.command("use-celery")
@click.argument("state", type=click.Choice(["on", "off", "status"]))
def use_celery(state: str) -> None:
    """Have the bench's jobs go to Celery, or to RQ again; or say where they go."""
    way_in, folder = import_module(WAY_IN), Path.cwd()
    try:
        if state != "status":
            waiting = import_module("frappe_jobs.runtime").use(folder).ledger.waiting_in_all()
            (way_in.switch_on if state == "on" else way_in.switch_off)(folder)
            if state == "off" and waiting:
                click.echo(
                    f"{waiting} jobs wait on Celery: `frappe-jobs worker --burst` runs them, and "
                    "`frappe-jobs jobs list` shows them.", err=True,
                )  # fmt: skip
        now = way_in.state(folder)
    except FrappeJobsError as error:
        fail(error, 69 if isinstance(error, BrokerUnavailable) else 1)
    goes = "to Celery" if now == "on" else "to RQ"
    click.echo(f"{now}: the bench's jobs go {goes}.")
    if state != "status":
        click.echo("Restart its web, worker and schedule processes.")


def bench_commands() -> list[click.Command]:
    """Ours; on a bench that stays on RQ only the one that changes this, and the doctor.

    The others stay Frappe's: what they read and write are the sites' records and configuration,
    which our scheduler goes by.
    """
    try:
        is_off = bool(read_common(Path.cwd()).get(OFF))
    except FrappeJobsError as error:
        print(f"frappe_jobs: {error}", file=sys.stderr)
        is_off = True
    if is_off:
        return [use_celery, DoctorOnRQ("doctor", short_help=COMMANDS["doctor"][1])]
    return [
        use_celery,
        ServingCommand("worker", [_of_rq("-u", "--rq-username"), _of_rq("-p", "--rq-password")]),
        ServingCommand("worker-pool"),
        ServingCommand("schedule"),
        BenchCommand("show-pending-jobs"),
        PurgeCommand("purge-jobs"),
        BenchCommand("ready-for-migration"),
        BenchCommand("trigger-scheduler-event"),
        BenchCommand("doctor"),
    ]


commands = bench_commands()
