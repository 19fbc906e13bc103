"""The options by which commands choose jobs: all that a search can filter by."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from frappe_jobs.cli.options import known_queues
from frappe_jobs.ledger.record import ENDED, OPEN

#: Seconds.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def moment(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """``2h`` (ago), or ISO 8601, in seconds since 1970; a usage error for anything else."""
    if value is None:
        return None
    if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", value):
        return time.time() - int(ago[1]) * UNITS[ago[2]]
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{value!r} is no time. Give 30m, 2h or 7d (ago), or 2026-11-29T08:30."
        ) from None


OPTIONS = (
    click.option(
        "--status", "statuses", multiple=True, type=click.Choice([*OPEN, *ENDED]),
        help="Only this status; may be given more than once.",
    ),
    click.option(
        "--queue", "queues", callback=known_queues,
        help="Only these queues, separated by commas.",
    ),
    click.option("--method", help="Only jobs of this method, by its dotted path."),
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
