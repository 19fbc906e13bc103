"""The commands of a Frappe bench that are ours; Frappe imports this file for every command.

So it imports nothing that takes time: a command's own module is loaded when the command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from frappe_jobs.cli import COMMANDS, Exiting, fail, load
from frappe_jobs.cli.options import Bench
from frappe_jobs.errors import BrokerUnavailable, FrappeJobsError
from frappe_jobs.frappe_bench.way_in import state

WAY_IN = "frappe_jobs.frappe_bench.way_in"
INSTALLED = "frappe_jobs.frappe_bench.installed"
LEAVING = "frappe_jobs.deploy.leaving"
SWITCHING = "frappe_jobs.frappe_bench.switching"


#: Frappe's own code leaks a little memory with each job, so a process is replaced after so many.
JOBS_PER_PROCESS = 2000


class BenchCommand(Exiting):
    """One of our commands among Frappe's, with its options and our exit statuses."""

    def __init__(self, name: str, ignored: Sequence[click.Option] = ()) -> None:
        super().__init__(name, short_help=COMMANDS[name][1])
        self._ignored = ignored

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        site = parent.params.get("site") if parent else None
        try:
            command = load(str(self.name))
            self.params, self.callback, self.help = (
                [*command.params, *self._ignored], command.callback, command.help,
            )  # fmt: skip
            bench = Bench(site=site or None, embedded=False)
            return super().make_context(info_name, args, parent, obj=bench, **extra)
        except FrappeJobsError as error:
            fail(error, 1)
            raise


class ServingCommand(BenchCommand):
    """A command that runs workers or the scheduler.

    On a bench never switched on or off it is Frappe's own until a site has the app; then it
    switches the bench on.
    """

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        try:
            if state(Path.cwd()) == "undecided" and not import_module(INSTALLED).anywhere(
                unknown=False
            ):
                return _frappes(str(self.name)).make_context(info_name, args, *rest, **extra)
        except FrappeJobsError as error:
            fail(error, 1)
        return super().make_context(info_name, args, *rest, **extra)

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
                # Not by sys.stdout, which is Celery's log by now; scripts look for RQ's last line.
                os.write(1, b"the queues are empty, quitting\n")
            raise


class PurgeCommand(BenchCommand):
    """Like Frappe's: it does not ask, and without a site it means all sites."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        context = super().make_context(*args, **extra)
        context.params["yes"] = True
        context.obj.site = context.obj.site or os.environ.get("FRAPPE_SITE") or "all"
        return context


class DoctorOnRQ(click.Command):
    """Frappe's own doctor, and then what is wrong between RQ and what is left of ours."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        frappes = _frappes("doctor")
        self.params, self.callback, self.help = frappes.params, frappes.callback, frappes.help
        return super().make_context(*args, **extra)

    def invoke(self, context: click.Context) -> Any:
        done = super().invoke(context)
        import_module("frappe_jobs.cli.doctor").say_what_is_left(Path.cwd())
        return done


def _frappes(name: str) -> click.Command:
    """Frappe's own command of that name."""
    found: Sequence[click.Command] = import_module("frappe.commands.scheduler").commands
    return next(command for command in found if command.name == name)


def _of_rq(*names: str, **options: Any) -> click.Option:
    """An option that only RQ's workers use: accepted, with a warning."""

    def warn(_: click.Context, option: click.Parameter, value: Any) -> None:
        if value:
            click.echo(f"{option.opts[-1]} is for RQ's workers; it is ignored.", err=True)

    return click.Option(names, expose_value=False, callback=warn, help="RQ only.", **options)


@click.command("use-celery")
@click.argument("wanted", metavar="[on|off|status]", type=click.Choice(["on", "off", "status"]))
@click.option(
    "--forget",
    is_flag=True,
    help="With off: remove all of the bench from Redis and RabbitMQ, with the jobs that wait.",
)
@click.option(
    "--drain",
    is_flag=True,
    help="Switch while the bench works: see its jobs through, and say what to restart and when.",
)
@click.option(
    "--within", type=click.FloatRange(1), default=300.0, show_default=True, metavar="SECONDS",
    help="With --drain: how long to wait for each thing.",
)  # fmt: skip
def use_celery(wanted: str, forget: bool, drain: bool, within: float) -> None:
    """Have the bench's jobs go to Celery, or to RQ again; or say where they go."""
    if forget and (wanted != "off" or drain):
        raise click.UsageError("--forget goes with off, and not with --drain.")
    if drain and wanted == "status":
        raise click.UsageError("--drain goes with on and off.")
    folder = Path.cwd()
    try:
        if drain:
            _drain(wanted, folder, within)
        elif wanted != "status":
            _switch(wanted, folder, forget)
        now = state(folder)
    except FrappeJobsError as error:
        fail(error, 69 if isinstance(error, BrokerUnavailable) else 1)
    goes = "to Celery" if now == "on" else "to RQ"
    click.echo(f"{now}: the bench's jobs go {goes}.")
    if wanted != "status" and not drain:
        click.echo("Restart its web, worker and schedule processes.")


def _switch(wanted: str, folder: Path, forget: bool) -> None:
    way_in, here = import_module(WAY_IN), import_module("frappe_jobs.runtime").use(folder)
    waiting = here.ledger.waiting_in_all()
    if forget:
        _require_nobody(here)
    (way_in.switch_on if wanted == "on" else way_in.switch_off)(folder)
    if forget:
        import_module(LEAVING).forget(here.in_force, here.broker)
        click.echo("Nothing of the bench is on its servers any more; "
                   f"{waiting} of the removed jobs were waiting.")  # fmt: skip
    elif wanted == "off" and waiting:
        click.echo(
            f"{waiting} jobs wait on Celery: `frappe-jobs worker --burst` runs them, and "
            "`frappe-jobs jobs list` shows them.", err=True,
        )  # fmt: skip


def _drain(wanted: str, folder: Path, within: float) -> None:
    """Switch step by step; then say what the doctor finds, and exit with 1 for an error."""
    import_module("frappe_jobs.runtime").use(folder)
    switching, doctor = import_module(SWITCHING), import_module("frappe_jobs.cli.doctor")
    if wanted == "on":
        switching.to_celery(folder, within)
        is_well = doctor.say_all(folder)
    else:
        switching.to_rq(folder, within)
        is_well = doctor.say_what_is_left(folder)
    if not is_well:
        sys.exit(1)


def _require_nobody(here: Any) -> None:
    """Raise FrappeJobsError while a process runs that would write again what is removed."""
    if there := import_module(LEAVING).who_is_there(here.broker, here.timetable):
        raise FrappeJobsError(
            f"Nothing is switched or removed: {', '.join(there)} still run. Stop the bench's "
            "workers and its scheduler, then try again."
        )


def bench_commands(where: str) -> list[click.Command]:
    """Our commands; while the bench's jobs go to RQ, most stay Frappe's, which look at RQ.

    The others are always Frappe's: they read and write what our scheduler goes by.
    """
    if where == "off":
        return [use_celery, DoctorOnRQ("doctor", short_help=COMMANDS["doctor"][1])]
    serving = [
        use_celery,
        ServingCommand("worker", [_of_rq("-u", "--rq-username"), _of_rq("-p", "--rq-password")]),
        ServingCommand("worker-pool"),
        ServingCommand("schedule"),
        BenchCommand("doctor"),
    ]
    if where == "undecided":
        return serving
    return [
        *serving,
        BenchCommand("show-pending-jobs"),
        PurgeCommand("purge-jobs"),
        BenchCommand("ready-for-migration"),
        BenchCommand("trigger-scheduler-event"),
    ]


def _where() -> str:
    """Where the jobs of this bench go; on RQ where its configuration cannot be read."""
    try:
        return state(Path.cwd())
    except FrappeJobsError as error:
        print(f"frappe_jobs: {error}", file=sys.stderr)
        return "off"


commands = bench_commands(_where())
