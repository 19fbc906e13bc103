"""When a job is due, and when it is too late for it, from what a caller says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo

from frappe_jobs.cron import first_coming
from frappe_jobs.errors import ArgumentError, shortened

#: Years after which nobody waits for a job any more: such a time is a mistake.
FARTHEST = 100
FARTHEST_SECONDS = FARTHEST * 366 * 86400


def moment(when: object, zone: Callable[[], tzinfo]) -> float:
    """That time in seconds since 1970; a naive one is a wall-clock time of the zone.

    One that comes twice means its first coming, one that clocks leave out the end of the gap.
    Raises ArgumentError.
    """
    if not isinstance(when, datetime):
        raise ArgumentError(
            f"when must be a datetime; not {shortened(when)}. For some time from now there is "
            "enqueue_in."
        )
    try:
        seconds = (when if when.tzinfo else first_coming(when, zone())).timestamp()
    except (ValueError, OverflowError):  # the calendar's first or last day
        seconds = math.inf if when.year > 5000 else 0.0
    if seconds - time.time() > FARTHEST_SECONDS:
        raise ArgumentError(f"{when} is over {FARTHEST} years away: no job waits for so long.")
    return max(0.0, seconds)


def seconds_of(delta: object) -> float:
    """How long that is, 0 or more; raises ArgumentError."""
    if isinstance(delta, timedelta):
        delta = delta.total_seconds()
    if isinstance(delta, bool) or not isinstance(delta, (int, float)) or math.isnan(delta):
        raise ArgumentError(f"delta must be a timedelta, or seconds; not {shortened(delta)}.")
    if delta > FARTHEST_SECONDS:
        raise ArgumentError(f"delta is over {FARTHEST} years: no job waits for so long.")
    return float(delta) if delta > 0 else 0.0


def expiry(expires: object, now: Callable[[], float]) -> float | None:
    """When it is too late to begin a job, in seconds since 1970; None: never.

    Raises ArgumentError.
    """
    if expires is None:
        return None
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise ArgumentError("expires needs a zone, such as when.astimezone(); or give seconds.")
        return moment(expires, lambda: timezone.utc)
    span = expires.total_seconds() if isinstance(expires, timedelta) else expires
    if isinstance(span, bool) or not isinstance(span, (int, float)) or not span > 0:
        raise ArgumentError(
            "expires must be seconds, more than 0, or a time with a zone; not "
            f"{shortened(expires)}."
        )
    if span > FARTHEST_SECONDS:
        raise ArgumentError(f"expires is over {FARTHEST} years: no job waits for so long.")
    return now() + span
