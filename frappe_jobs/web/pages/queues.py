"""The queues: what waits, how fast they are emptied, how long jobs wait and run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frappe_jobs.web.view import Page, View


def read(view: View) -> Mapping[str, Any]:
    return {
        "served": view.picture.served.latest(),
        "past": view.picture.past.latest(),
        "is_recorded": view.here.settings.keeps_history,
    }


PAGE = Page("/queues", "Queues", "queues.html", read, whole_bench=True)
