"""The queues: what waits, how fast they are emptied, how long jobs wait and run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frappe_jobs.rows import limits
from frappe_jobs.web.view import Page, View

#: Limits that are shown: those that jobs wait for come first.
MOST = 50
#: Seconds for which they are kept, for all who look.
PACE = 2.0


def read(view: View) -> Mapping[str, Any]:
    return {
        "served": view.picture.served.latest(),
        "past": view.picture.past.latest(),
        "is_recorded": view.here.settings.keeps_history,
        "limits": view.picture.kept.get("limits", PACE, lambda: _limits(view)),
        "most": MOST,
    }


def _limits(view: View) -> list[dict[str, Any]]:
    return sorted(limits.rows(view.here.ledger), key=lambda one: -one["waiting"])[:MOST]


PAGE = Page("/queues", "Queues", "queues.html", read, whole_bench=True)
