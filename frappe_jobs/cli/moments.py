"""Times and spans of time in a command's options."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import click

from frappe_jobs import runtime
from frappe_jobs.api import composing
from frappe_jobs.rows.values import UNITS
from frappe_jobs.texts.moments import seconds_of


def moment_given(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """ISO 8601, with an offset or by the site's clocks."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time. Give 2026-12-01T08:30.") from None


def span_given(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    if text is None:
        return None
    if span := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        return timedelta(seconds=int(span[1]) * UNITS[span[2]])
    raise click.BadParameter(f"{text!r} is no span of time. Give 30s, 30m, 2h or 7d.")


def due_at(at: datetime | None, delta: timedelta | None, site: str) -> datetime:
    """When a job of that site is due, by Redis's clock where it is a span from now."""
    if at is None:
        seconds = runtime.current().ledger.now() + seconds_of(delta)
    else:
        seconds = composing.moment_on(site, at)
    return datetime.fromtimestamp(seconds, timezone.utc)
