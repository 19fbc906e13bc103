"""What is to be done to all that filters find: how many there are, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from frappe_jobs.bulk.shown import LIMIT, Shown, look, recall, remember
from frappe_jobs.doctor.text import number
from frappe_jobs.errors import ArgumentError
from frappe_jobs.rows.bulk import DEEDS
from frappe_jobs.web.access import ADMIN, OPERATOR
from frappe_jobs.web.filters import given_in, in_words, search_by
from frappe_jobs.web.view import NotHere, Page, View

#: Who may do it.
ROLES = {"retry": OPERATOR, "cancel": OPERATOR, "delete": ADMIN}
#: Kinds of jobs that are shown.
SHOWN = 30


def read(view: View) -> Mapping[str, Any]:
    """What would be done; or, once it was begun, how far it is."""
    name = view.one_of("do") or ""
    if name not in DEEDS or not view.person.may(ROLES[name]):
        raise NotHere
    if word := view.one_of("word"):
        run = view.runs.find(word)
        if run is None or not all(map(view.person.sees, run.sites)):
            raise NotHere
        return {"heading": f"{DEEDS[name].title} {number(run.total, 'job')}", "run": run}
    return _asked(view, name)


def _asked(view: View, name: str) -> Mapping[str, Any]:
    given, deed = given_in(view), DEEDS[name]
    if not any(given.values()):
        raise ArgumentError("Choose the jobs by a filter first.")
    shown = look(search_by(view, given, deed.statuses))
    kinds = sorted(shown.counts.items(), key=lambda one: (-one[1], one[0]))
    given["status"] = given["status"] or [*deed.statuses]
    count = len(shown.statuses)
    return {
        "heading": f"{deed.title} {number(count, 'job')}?" if count else "Many jobs",
        "run": None, "is_still": True, "do": name, "title": deed.title, "count": count,
        "filters": in_words(given), "kinds": kinds[:SHOWN], "others": len(kinds[SHOWN:]),
        "has_more": shown.has_more, "limit": LIMIT, "at": time.time(), "back": given_in(view),
        "word": remember(view.here.ledger, shown) if shown.statuses else "",
    }  # fmt: skip


def shown_to(view: View) -> Shown:
    """What the form's word stands for; raises NotHere if some of it is not theirs to see."""
    shown = recall(view.here.ledger, view.one_of("word") or "")
    if not all(map(view.person.sees, sites_of(shown))):
        raise NotHere
    return shown


def sites_of(shown: Shown) -> list[str]:
    return sorted({site for site, *_ in shown.counts})


PAGE = Page("/bulk", "Many jobs", "bulk.html", read, in_menu=False, pace=0.5)
