"""Times and values as listings show them."""

from __future__ import annotations

import json
from datetime import datetime, timezone, tzinfo
from typing import Any


def shown_value(value: Any) -> str:
    """A result or an argument as JSON; values that JSON does not know become text."""
    return json.dumps(value, default=str, ensure_ascii=False)


def iso_time(seconds: float | None, zone: tzinfo = timezone.utc) -> str | None:
    """ISO 8601 with offset."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, zone).isoformat(timespec="milliseconds")
