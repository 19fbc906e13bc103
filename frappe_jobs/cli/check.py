"""Health probes: quick, so neither Celery nor a server is asked; the processes have left a sign."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from frappe_jobs.alive.signs import SCHEDULER, STILL, WORKER, Seen, look
from frappe_jobs.cli.options import Bench, Group, known_queues, one_line, pass_bench


@click.group(cls=Group)
def check() -> None:
    """Answer a health probe.

    The exit status is 0 if all workers, or schedulers, on this machine go on, else 1;
    a line says why.
    """


@check.command()
@click.option(
    "--queue", callback=known_queues,
    help="The queues that must be served here, separated by commas; default: any.",
)  # fmt: skip
@pass_bench
def worker(bench: Bench, queue: list[str]) -> None:
    """Whether workers on this machine take jobs."""
    seen = [
        one for one in look(bench.settings.sites_path, WORKER)
        if not queue or one.queues is None or {*queue} & {*one.queues}
    ]  # fmt: skip
    _end_if_wrong(seen, f"No worker runs on {_host()}" + (f" for {', '.join(queue)}" * bool(queue)))
    served = {name for one in seen for name in one.queues or queue}
    if missing := [name for name in queue if name not in served]:
        _end(1, f"No worker runs on {_host()} for {', '.join(missing)}.")
    first, *rest = seen
    serves = "" if first.queues is None else f" serves {', '.join(first.queues)};"
    _end(0, f"{first.name}{serves} last sign of life {first.age:.0f} s ago{_more(rest)}.")


@check.command()
@pass_bench
def scheduler(bench: Bench) -> None:
    """Whether a scheduler on this machine leads, or stands by."""
    seen = look(bench.settings.sites_path, SCHEDULER)
    _end_if_wrong(seen, f"No scheduler runs on {_host()}")
    first, *rest = seen
    _end(0, f"{first.name} {first.state}; last sign of life {first.age:.0f} s ago{_more(rest)}.")


def _end_if_wrong(seen: Sequence[Seen], none: str) -> None:
    if not seen:
        _end(1, f"{none}.")
    for one in seen:
        if one.age > STILL:
            _end(1, f"{one.name} stands still: no sign of life for {one.age:.0f} s.")
        if one.fault:
            _end(1, f"{one.name}: {one.fault.rstrip('.')}.")


def _more(rest: Sequence[Seen]) -> str:
    return f", and {len(rest)} more" if rest else ""


def _host() -> str:
    return os.uname().nodename


def _end(status: int, text: str) -> None:
    click.echo(one_line(text))
    sys.exit(status)
