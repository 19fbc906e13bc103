"""The filters in an address: of the list of jobs, and of what is done to many of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from frappe_jobs.errors import ArgumentError, UnknownQueue
from frappe_jobs.ledger.search import Search
from frappe_jobs.rows.values import moment_of
from frappe_jobs.web.view import View

#: The filters that are given once, and those that may be given more often.
SINGLE, SEVERAL = ("method", "user", "job", "error", "since", "until"), ("site", "status", "queue")


def given_in(view: View) -> dict[str, Any]:
    """The filters as the address has them."""
    several: dict[str, Any] = {name: view.all_of(name) for name in SEVERAL}
    return several | {name: view.one_of(name) or "" for name in SINGLE}


def in_words(given: Mapping[str, Any]) -> list[str]:
    """``status failed``, ``queue short or long``, …"""
    texts = {name: value if isinstance(value, str) else " or ".join(value)
             for name, value in given.items()}  # fmt: skip
    return [f"{name} {text}" for name, text in texts.items() if text]


def search_by(view: View, given: Mapping[str, Any], statuses: Sequence[str] = ()) -> Search:
    """The search for what the filters want, with these statuses if they name none.

    Raises ArgumentError, which says what is legal: also for sites that they may not see.
    """
    for wrong in _wrong(view, given):
        raise ArgumentError(wrong)
    filters = {name: given[name] or None for name in ("method", "user", "job", "error")}
    times = {name: moment_of(given[name]) for name in ("since", "until") if given[name]}
    return view.here.search(
        given["site"] or view.sites, statuses=given["status"] or statuses, queues=given["queue"],
        **filters, **times,
    )  # fmt: skip


def _wrong(view: View, given: Mapping[str, Any]) -> Iterator[str]:
    for site in given["site"]:
        if not view.is_site(site):
            yield f"There is no site {site!r} that you may see."
    for queue in given["queue"]:
        try:
            view.here.settings.queue(queue)
        except UnknownQueue as error:
            yield str(error)
