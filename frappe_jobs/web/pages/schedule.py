"""The scheduled jobs of a site: when each is due, in words and in its zone, and how it last ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frappe_jobs import api
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.host.schedule_records import JobType
from frappe_jobs.rows.scheduled_jobs import coming, row
from frappe_jobs.scheduler.frequency import FREQUENCIES
from frappe_jobs.web.scheduled import skipped
from frappe_jobs.web.view import Page, View

#: Next times that are shown of each; runs in a strip; logs that are read for the strips.
TIMES, RUNS, LOGS = 3, 14, 600
LOG = "Scheduled Job Log"


@dataclass(frozen=True)
class Run:
    """A run of a scheduled job, as its log says."""

    status: str
    at: Any
    #: Seconds; None where the log does not say.
    duration: float | None


def read(view: View) -> Mapping[str, Any]:
    site = chosen_site(view)
    if site is None:
        return {"site": None, "sites": view.sites, "rows": []}
    here = view.here
    entries, zone = here.timetable.of_site(site), here.sync.of(site).zone()
    runs, out = _runs(view, site), skipped(here, site)
    rows = [
        row(site, job, entries, zone) | coming(here, site, job, TIMES)
        | {"runs": runs.get(job.name, [])[:RUNS][::-1], "fault": job.fault, "event": job.has_event,
           "skipped": job.name in out}
        for job in sorted(here.host.schedule.job_types(site), key=_order)
    ]  # fmt: skip
    return {
        "site": site, "sites": view.sites, "rows": rows, "zone": str(zone),
        "frequencies": [one.name for one in FREQUENCIES.values()],
        # On a bench the frequency says which queue it is.
        "queues": [] if here.is_bench else [*here.settings.queues], "is_bench": here.is_bench,
        "inactive": here.scheduling.inactive(site), "leader": bool(here.timetable.leader()),
    }  # fmt: skip


def chosen_site(view: View) -> str | None:
    """The site that the address names, else the default one; None: they see none.

    Raises NotHere.
    """
    if view.one_of("site"):
        return view.site()
    default = view.here.settings.default_site
    sites = view.sites
    return default if default in sites else next(iter(sites), None)


def _order(job: JobType) -> tuple[bool, str]:
    return job.stopped, job.method


def _runs(view: View, site: str) -> Mapping[str, Sequence[Run]]:
    """The newest runs of each, the newest first; of those whose runs are logged."""
    lasted = [] if view.here.is_bench else ["duration"]  # Frappe's log has none
    fields = ["scheduled_job_type", "status", "creation", *lasted]
    found: defaultdict[str, list[Run]] = defaultdict(list)
    try:
        with api.site(site):
            logs = api.get_all(LOG, fields=fields, order_by="creation desc", limit=LOGS)
    except (FrappeJobsError, LookupError):  # a site before its first migrate
        return {}
    for log in logs:
        run = Run(log["status"], log["creation"], log.get("duration"))
        found[log["scheduled_job_type"]].append(run)
    return found


PAGE = Page("/schedule", "Schedule", "schedule.html", read, pace=5.0)
