"""The jobs, latest first; the filters stand in the address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frappe_jobs.errors import ArgumentError
from frappe_jobs.ledger.record import ENDED, OPEN
from frappe_jobs.ledger.wanted import STATUSES
from frappe_jobs.rows.bulk import DEEDS
from frappe_jobs.rows.jobs import row
from frappe_jobs.web.filters import SINGLE, given_in, search_by
from frappe_jobs.web.pages.bulk import ROLES
from frappe_jobs.web.view import Page, View

#: Jobs on a page.
SHOWN = 50
#: To jobs of which statuses it can be done.
FIT = {"retry": ENDED, "cancel": OPEN, "delete": STATUSES}


def read(view: View) -> Mapping[str, Any]:
    given, cursor = given_in(view), view.one_of("cursor")
    found, wrong = None, []
    try:
        found = search_by(view, given).page(cursor, SHOWN)
    except ArgumentError as error:
        wrong = [str(error)]
    records = found.records if found else []
    is_filtered = any(given.values())
    return {
        "given": given, "wrong": wrong, "statuses": STATUSES, "sites": view.sites,
        "queues": [*view.here.settings.queues], "is_first": cursor is None,
        "is_filtered": is_filtered, "more": any(given[name] for name in SINGLE),
        # By its message: a job's id may have been used again.
        "rows": [
            row(view.here.jobs.of(record)) | {"message_id": record.message.id} for record in records
        ],
        "cursor": found.cursor if found else None, "looked": found.looked if found else 0,
        "is_cut": bool(found and found.is_cut), "is_still": cursor is not None,
        "deeds": deeds(view, given) if is_filtered and records else {},
    }  # fmt: skip


def deeds(view: View, given: Mapping[str, Any]) -> Mapping[str, str]:
    """What the person may do to all that these filters find, by its name; and what it says."""
    statuses = given["status"] or STATUSES
    return {
        name: deed.title for name, deed in DEEDS.items()
        if view.person.may(ROLES[name]) and {*statuses} & {*FIT[name]}
    }  # fmt: skip


PAGE = Page("/jobs", "Jobs", "jobs.html", read)
