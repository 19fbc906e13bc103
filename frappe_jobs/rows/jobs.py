"""A job's row, and all that is known of it."""

from __future__ import annotations

import json
from typing import Any

from frappe_jobs.errors import BadMessage
from frappe_jobs.job import Job
from frappe_jobs.ledger.record import Record
from frappe_jobs.rows.values import iso_time, shown_value

COLUMNS = (
    "id", "name", "site", "queue", "method", "user", "status", "reason", "attempt",
    "enqueued_at", "started_at", "ended_at", "due",
)  # fmt: skip
MORE = (
    "message_id", "task_id", "event", "timeout", "expires_at", "at_front", "position", "limited",
    "arguments",
    "progress", "stage", "worker", "attempts", "result", "traceback",
)  # fmt: skip


def row(job: Job) -> dict[str, Any]:
    """Its line in a listing."""
    found = {name: getattr(job, name) for name in COLUMNS}
    times = "enqueued_at", "started_at", "ended_at", "due"
    return found | {name: iso_time(found[name]) for name in times}


def more(record: Record, job: Job) -> dict[str, Any]:
    """What stands beside that where a single job is shown."""
    message = record.message
    found: dict[str, Any] = {
        "event": message.event,
        "expires_at": iso_time(message.expires_at),
        "at_front": message.at_front,
        "worker": record.worker,
        "attempts": [
            {**one, **{name: iso_time(one.get(name)) for name in ("started_at", "ended_at")}}
            for one in job.attempts
        ],
    }
    for name, source in (("arguments", "kwargs"), ("result", "result")):
        try:
            found[name] = json.loads(shown_value(getattr(job, source)))
        except (BadMessage, TypeError, ValueError):  # its app is gone; its keys are no JSON keys
            found[name] = "cannot be shown"
    return {name: found[name] if name in found else getattr(job, name) for name in MORE}
