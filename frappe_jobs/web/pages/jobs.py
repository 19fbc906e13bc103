"""The jobs, latest first; the filters stand in the address."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from frappe_jobs.ledger.record import ENDED, OPEN
from frappe_jobs.rows.jobs import row
from frappe_jobs.web.view import Page, View

STATUSES = (*OPEN, *ENDED)
SHOWN, MOST = 50, 500


def read(view: View) -> Mapping[str, Any]:
    sites, statuses, queues = view.all_of("site"), view.all_of("status"), view.all_of("queue")
    wrong = [*_wrong(view, sites, statuses, queues)]
    limit = _limit(view.one_of("limit"), wrong)
    filters = {"site": sites, "status": statuses, "queue": queues}
    shared = {
        "filters": filters, "wrong": wrong, "statuses": STATUSES, "limit": limit, "most": MOST,
        "sites": view.sites, "queues": [*view.here.settings.queues], "step": SHOWN,
    }  # fmt: skip
    if wrong:
        return shared | {"rows": [], "more": False}
    found = view.here.listing.latest(sites or view.sites, statuses, queues)
    records = [*islice(found, limit + 1)]
    rows = [row(view.here.jobs.of(record)) for record in records[:limit]]
    return shared | {"rows": rows, "more": len(records) > limit}


def _wrong(view: View, sites: list[str], statuses: list[str], queues: list[str]) -> Any:
    for site in sites:
        if site not in view.sites:
            yield f"There is no site {site!r} that you may see."
    for status in statuses:
        if status not in STATUSES:
            yield f"There is no status {status!r}; legal: {', '.join(STATUSES)}."
    known = view.here.settings.queues
    for queue in queues:
        if queue not in known:
            yield f"There is no queue {queue!r}; known queues: {', '.join(known)}."


def _limit(text: str | None, wrong: list[str]) -> int:
    if text is None:
        return SHOWN
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST):
        wrong.append(f"The limit must be a whole number, 1 to {MOST}; not {text[:50]!r}.")
        return SHOWN
    return int(text)


PAGE = Page("/jobs", "Jobs", "jobs.html", read)
