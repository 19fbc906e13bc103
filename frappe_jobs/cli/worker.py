"""The workers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from frappe_jobs import runtime
from frappe_jobs.alive.code import on_disk
from frappe_jobs.celery.scheduler import Scheduler, run_scheduler
from frappe_jobs.celery.worker import STRATEGIES, Worker, run_worker, say_ready
from frappe_jobs.celery.worker_pool import Member, WorkerPool
from frappe_jobs.cli import completion
from frappe_jobs.cli.logs import log_options
from frappe_jobs.cli.options import Bench, known_queues, pass_bench
from frappe_jobs.cli.reload import run_again_and_again, this_command
from frappe_jobs.errors import shortened

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--burst", is_flag=True, help="End when the queues are empty and all is done."),
    click.option(
        "--strategy", type=click.Choice([*STRATEGIES]),
        help="Take turns between the queues, or look at random; default: earlier ones first. "
        "Redis only.",
    ),
    click.option(
        "--max-jobs", type=click.IntRange(1), help="Replace a process after that many jobs."
    ),
    click.option(
        "--max-memory", type=click.IntRange(1), metavar="MIB",
        help="Replace a process after a job that leaves it larger than that.",
    ),
    click.option(
        "--events", is_flag=True,
        help="Send Celery's events from the start, for an exporter that only listens.",
    ),
)  # fmt: skip


class Pool(click.Choice):  # type: ignore[type-arg,unused-ignore]
    """Celery's pools that keep our promises, or say which promise they do not keep."""

    def __init__(self) -> None:
        super().__init__(["prefork", "threads", "solo"])

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        if value in ("gevent", "eventlet"):
            self.fail(
                f"a {value} pool cannot renew the lease of a job that computes, so the job might "
                "run twice at once: use threads.",
                parameter, context,
            )  # fmt: skip
        return super().convert(value, parameter, context)


def worker_options(command: Command) -> Command:
    """The options that a worker and a pool of workers share."""
    command = log_options(command)
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def node_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None or re.fullmatch(r"[A-Za-z0-9_.+-]{1,100}(@[A-Za-z0-9_.-]{1,100})?", value):
        return value
    raise click.BadParameter(
        f"a name of letters, digits, '_', '-', '.' and '+', followed by @HOST if you like; "
        f"not {shortened(value)}."
    )


@click.command()
@click.option(
    "--queue", callback=known_queues, shell_complete=completion.queues,
    help="The queues to serve, separated by commas, earlier ones first; default: all.",
)  # fmt: skip
@click.option(
    "--concurrency", type=click.IntRange(1), default=1, show_default=True,
    help="How many jobs at once, each in a process of its own.",
)  # fmt: skip
@click.option(
    "--pool", type=Pool(), default="prefork", show_default=True,
    help="Celery's; only prefork can enforce timeouts.",
)  # fmt: skip
@click.option(
    "--name", callback=node_name,
    help="Its name in Celery's events and commands, which no other worker may have; default: "
    "made of the queues, a random part, the process and the host.",
)  # fmt: skip
@click.option(
    "--reload", is_flag=True, help="Begin anew when the apps' code changes; for development."
)
@worker_options
@pass_bench
def worker(bench: Bench, /, queue: list[str], reload: bool, **options: Any) -> None:
    """Run the jobs of these queues.

    One job at a time unless --concurrency says more. Prints "ready" on standard error once it
    takes jobs. SIGTERM lets running jobs finish; a second SIGTERM hands them back to their queues.
    """
    here = runtime.use(bench.settings.sites_path)
    if reload:
        apps = bench.settings.sites.apps()
        sys.exit(run_again_and_again(*this_command("reload"), lambda: on_disk(apps)))
    asked = Worker(queue or list(bench.settings.queues), **options)
    run_worker(here.app, here.in_force, asked, say_ready)


def _groups(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[list[str], int | None]]:
    """Each "short,default:4" as its queues and its number of processes."""
    groups = []
    for value in values:
        names, colon, count = value.partition(":")
        if colon and not (count.isdecimal() and int(count) > 0):
            raise click.BadParameter(f"the number of processes must be 1 or more; not {count!r}.")
        if not (queues := known_queues(context, parameter, names)):
            raise click.BadParameter(f"{value!r} names no queue.")
        groups.append((queues, int(count) if colon else None))
    return groups


@click.command("worker-pool")
@click.option(
    "--queue", "groups", multiple=True, callback=_groups, metavar="QUEUES[:NUMBER]",
    shell_complete=completion.queues,
    help="A group of processes, and the queues that they serve; default: one group for all. "
    "May be given more than once.",
)  # fmt: skip
@click.option(
    "--num-workers", type=click.IntRange(1), default=2, show_default=True,
    help="Processes of each group without a number.",
)  # fmt: skip
@click.option(
    "--scheduler/--no-scheduler", default=None,
    help="Run the scheduler beside them; default: if Frappe's own worker-pool does (16).",
)  # fmt: skip
@worker_options
@pass_bench
def worker_pool(
    bench: Bench,
    /,
    groups: list[tuple[list[str], int | None]],
    num_workers: int,
    scheduler: bool | None,
    **options: Any,
) -> None:
    """Run several groups of workers under one parent.

    They start once and share the memory of what they have loaded; a worker that dies is replaced.
    Prints "ready" on standard error once all take jobs. Signals mean the same as for a worker.
    """
    here = runtime.use(bench.settings.sites_path)
    members: list[Member] = [
        Worker(queues, number or num_workers, **options)
        for queues, number in groups or [([*bench.settings.queues], None)]
    ]
    if options["burst"]:
        if scheduler:
            raise click.UsageError("A scheduler never ends, so it does not go with --burst.")
    elif here.host.worker_pool_schedules if scheduler is None else scheduler:
        members.append(Scheduler(options["log"]))

    def start(asked: Member, on_ready: Callable[[], object]) -> None:
        if isinstance(asked, Scheduler):
            run_scheduler(here.app, here.in_force, log=asked.log, on_ready=on_ready)
        else:
            run_worker(here.app, here.in_force, asked, on_ready)

    here.app.finalize()
    here.host.preload()
    WorkerPool(members, start).run()
