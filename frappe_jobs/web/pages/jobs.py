"""The jobs, latest first; the filters stand in the address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from frappe_jobs.errors import ArgumentError, UnknownQueue
from frappe_jobs.ledger.search import Page as Found
from frappe_jobs.ledger.wanted import STATUSES
from frappe_jobs.rows.jobs import row
from frappe_jobs.rows.values import moment_of
from frappe_jobs.web.view import Page, View

#: Jobs on a page.
SHOWN = 50
#: The filters that are given once, and those that may be given more often.
SINGLE, SEVERAL = ("method", "user", "job", "error", "since", "until"), ("site", "status", "queue")


def read(view: View) -> Mapping[str, Any]:
    given: dict[str, Any] = {name: view.all_of(name) for name in SEVERAL}
    given |= {name: view.one_of(name) or "" for name in SINGLE}
    cursor = view.one_of("cursor")
    found, wrong = _found(view, given, cursor)
    records = found.records if found else []
    return {
        "given": given, "wrong": wrong, "statuses": STATUSES, "sites": view.sites,
        "queues": [*view.here.settings.queues], "is_first": cursor is None,
        "is_filtered": any(given.values()), "more": any(given[name] for name in SINGLE),
        # By its message: a job's id may have been used again.
        "rows": [
            row(view.here.jobs.of(record)) | {"message_id": record.message.id} for record in records
        ],
        "cursor": found.cursor if found else None, "looked": found.looked if found else 0,
        "is_cut": bool(found and found.is_cut), "is_still": cursor is not None,
    }  # fmt: skip


def _found(
    view: View, given: Mapping[str, Any], cursor: str | None
) -> tuple[Found | None, list[str]]:
    """What is found, or what is wrong with the address."""
    wrong = [*_wrong(view, given)]
    if wrong:
        return None, wrong
    filters = {name: given[name] or None for name in ("method", "user", "job", "error")}
    try:
        times = {name: moment_of(given[name]) for name in ("since", "until") if given[name]}
        search = view.here.search(
            given["site"] or view.sites, statuses=given["status"], queues=given["queue"],
            **filters, **times,
        )  # fmt: skip
        return search.page(cursor, SHOWN), []
    except ArgumentError as error:
        return None, [str(error)]


def _wrong(view: View, given: Mapping[str, Any]) -> Iterator[str]:
    for site in given["site"]:
        if site not in view.sites:
            yield f"There is no site {site!r} that you may see."
    for queue in given["queue"]:
        try:
            view.here.settings.queue(queue)
        except UnknownQueue as error:
            yield str(error)


PAGE = Page("/jobs", "Jobs", "jobs.html", read)
