"""Times and values as listings show them."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timezone, tzinfo
from typing import Any

from frappe_jobs.errors import ArgumentError

#: Seconds.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def shown_value(value: Any) -> str:
    """A result or an argument as JSON; values that JSON does not know become text."""
    return json.dumps(value, default=str, ensure_ascii=False)


def iso_time(seconds: float | None, zone: tzinfo = timezone.utc) -> str | None:
    """ISO 8601 with offset."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, zone).isoformat(timespec="milliseconds")


def moment_of(text: str) -> float:
    """``2h`` (ago), or ISO 8601, in seconds since 1970; raises ArgumentError for anything else."""
    if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return time.time() - int(ago[1]) * UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ArgumentError(
            f"{text!r} is no time. Give 30m, 2h or 7d (ago), or 2026-11-29T08:30."
        ) from None
