"""The overview: queues, workers, scheduler, failures, what the doctor finds."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from frappe_jobs.brokers.base import OnlineWorker
from frappe_jobs.doctor.workers import stale
from frappe_jobs.ledger.record import FAILED, Record
from frappe_jobs.ledger.wanted import WORDS_ASKED, words_of
from frappe_jobs.web.bench_picture import Answer
from frappe_jobs.web.view import Page, View

DAY = 24 * 3600
#: Failed jobs that are read, the newest; and groups of them that are shown.
READ, SHOWN = 500, 8
#: Queues that are shown, if there are more.
QUEUES = 12
#: Seconds between two looks at the failures.
PACE = 10.0


@dataclass(frozen=True)
class Failures:
    """Jobs that failed alike: the same error of the same method."""

    error: str
    method: str
    count: int
    newest: Record

    @property
    def filters(self) -> Mapping[str, str]:
        """By which the list of jobs shows them."""
        found = {"status": FAILED, "error": " ".join(words_of(self.error)[:WORDS_ASKED])}
        method = self.newest.message.method
        return found | ({} if method.startswith("frappe_jobs.") else {"method": method})


@dataclass(frozen=True)
class Crew:
    """A worker and the jobs that it runs; ``online`` is what it answered, None if it did not."""

    name: str
    jobs: Sequence[Record]
    online: OnlineWorker | None = None
    #: Why it has other code than is on disk; empty: it has the same.
    stale: str = ""

    @property
    def busy(self) -> int:
        return len(self.jobs)


def read(view: View) -> Mapping[str, Any]:
    whole = _whole_bench(view) if view.person.sees_all else None
    served = whole["served"].value if whole else None
    return {
        "whole": whole,
        "longest": longest(served.queues) if served else [],
        "busy_sites": _sites(view),
        "workers": _workers(view, served.workers if served else []),
        "failures": _failures(view),
    }


def longest(queues: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """All of few queues, in their order; of many those with the most jobs that wait."""
    if len(queues) <= QUEUES:
        return queues
    return sorted(queues, key=lambda one: -one["depth"])[:QUEUES]


def _whole_bench(view: View) -> dict[str, Any]:
    timetable = view.here.timetable
    return {
        "served": view.picture.served.latest(),
        "findings": view.picture.findings.latest(),
        "past": view.picture.past.latest(),
        "is_recorded": view.here.settings.keeps_history,
        "leader": timetable.leader(),
        "last_look": timetable.last_look(),
    }


def _sites(view: View) -> list[dict[str, Any]]:
    """How many jobs of each site wait and run: of those where any does."""
    counts = view.here.listing.count_open_by_site(view.sites)
    rows = [
        {"site": site, "waiting": waiting, "running": running}
        for site, (waiting, running) in counts.items()
        if waiting or running
    ]
    return sorted(rows, key=lambda row: (-row["waiting"], row["site"]))


def _workers(view: View, online: Sequence[OnlineWorker]) -> list[Crew]:
    """Who works, and on what; who sees only some sites is not told where their jobs run."""
    running: defaultdict[str, list[Record]] = defaultdict(list)
    for record in sorted(view.here.listing.running(), key=lambda one: one.started_at or 0):
        if view.person.sees(record.message.site):
            name = (record.worker or "?").partition("/")[0]
            running[name if view.person.sees_all else "Your sites' jobs"].append(record)
    answered = {worker.name: worker for worker in online}
    names = sorted({*running, *answered})
    disk = view.picture.code.latest().value if answered else None
    old = {name: stale(worker, disk) for name, worker in answered.items()} if disk else {}
    return [
        Crew(name, running.get(name, ()), answered.get(name), old.get(name, "")) for name in names
    ]


def _failures(view: View) -> Answer[Mapping[str, Any]]:
    key = "failures", view.person.sites
    # A view of its own for each look: the sites may be others by then.
    return view.picture.answer(key, PACE, lambda: _read_failures(replace(view)))


def _read_failures(view: View) -> Mapping[str, Any]:
    search = view.here.search(view.sites, statuses=[FAILED], since=time.time() - DAY)
    page = search.page(limit=READ)
    groups = grouped(page.records)
    return {
        "groups": groups[:SHOWN], "others": len(groups[SHOWN:]),
        "read": len(page.records) if page.cursor else None,
    }  # fmt: skip


def grouped(failed: Iterable[Record]) -> list[Failures]:
    """By error and method, the most first."""
    groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in failed:
        groups[_error(record), _method(record)].append(record)
    found = [
        Failures(error, method, len(alike), max(alike, key=lambda one: one.ended_at or 0))
        for (error, method), alike in groups.items()
    ]
    return sorted(found, key=lambda one: -one.count)


def _error(record: Record) -> str:
    """Its type without its module; a job that was killed has only a reason."""
    if record.error:
        return record.error.rpartition(".")[2]
    return (record.reason or "no reason was kept").partition(":")[0]


def _method(record: Record) -> str:
    message = record.message
    return message.name if message.method.startswith("frappe_jobs.") else message.method


PAGE = Page("/", "Overview", "overview.html", read)
