"""The queues of the bench: their limits, workers and waiting jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frappe_jobs.ledger.pauses import what_is_paused
from frappe_jobs.rows.values import iso_time
from frappe_jobs.runtime import Runtime

COLUMNS = (
    "name", "timeout", "workers", "depth", "oldest", "delayed", "limited", "paused",
)  # fmt: skip


def rows(here: Runtime, consumers: Mapping[str, int]) -> list[dict[str, Any]]:
    """A line for each; ``consumers`` is what the broker says of how many processes serve which."""
    pauses = here.ledger.pauses()
    elsewhere = here.ledger.delayed_by_queue(here.settings.queues)
    return [
        {
            "name": queue.name,
            "timeout": queue.timeout,
            "workers": consumers.get(queue.name, 0),
            "depth": here.broker.depth(queue.name),
            "oldest": iso_time(here.ledger.oldest(queue.name)),
            "delayed": elsewhere[queue.name].for_their_time,
            "limited": elsewhere[queue.name].limited,
            "paused": what_is_paused(queue.name, pauses),
        }
        for queue in here.settings.queues.values()
    ]
