"""The options by which commands choose jobs: all that a search can filter by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from frappe_jobs.cli import completion
from frappe_jobs.cli.options import known_queues
from frappe_jobs.errors import ArgumentError
from frappe_jobs.ledger.record import ENDED, OPEN
from frappe_jobs.rows.values import moment_of


def moment(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """What ``moment_of`` gives; a usage error for anything else."""
    try:
        return None if value is None else moment_of(value)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


OPTIONS = (
    click.option(
        "--status", "statuses", multiple=True, type=click.Choice([*OPEN, *ENDED]),
        help="Only this status; may be given more than once.",
    ),
    click.option(
        "--queue", "queues", callback=known_queues, shell_complete=completion.queues,
        help="Only these queues, separated by commas.",
    ),
    click.option(
        "--method", shell_complete=completion.methods,
        help="Only jobs of this method, by its dotted path.",
    ),
    click.option("--user", help="Only jobs of this user."),
    click.option("--error", help="Only failed jobs whose error has these words."),
    click.option(
        "--since", callback=moment,
        help="Only jobs that ended, or else were enqueued, since then: 2h, or 2026-11-29T08:30.",
    ),
    click.option("--until", callback=moment, help="Only those until then."),
)  # fmt: skip


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options: it gets what ``Runtime.search`` takes."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
