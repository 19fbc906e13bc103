"""The Desk's pages of jobs and workers: Frappe's own, with our queues' data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import frappe
from frappe.core.doctype.rq_job import rq_job
from frappe.core.doctype.rq_worker import rq_worker
from frappe.utils import cint, make_filter_dict
from rq.exceptions import InvalidJobOperation

from frappe_jobs.frappe_bench.errors import refusals
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq import transport
from frappe_jobs.frappe_bench.rq.job import STATUSES, BenchJob
from frappe_jobs.ledger.record import Record

# Frappe imports this module, and the pages' own modules, when a page is opened.
if transport.is_installed():
    transport.install_in_what_is_loaded()

SYSTEM_MANAGER = "System Manager"


class RQJob(rq_job.RQJob):  # type: ignore[misc]
    """A job, as Frappe's page shows it."""

    @staticmethod
    def get_list(args: Any = None, **asked: Any) -> list[Any]:
        """A page of the site's jobs; only those are read.  On RQ as Frappe does it.

        Frappe 15 gives a dict, later versions give keywords.
        """
        asked = {**(args or {}), **asked}
        _require_permission("RQ Job", asked)
        if not transport.is_installed():
            return list(frappe.call(rq_job.RQJob.get_list, args=asked, **asked))
        start, length = cint(asked.get("start")), cint(asked.get("page_length")) or 20
        found: Iterable[Record] = _records(asked.get("filters"))
        if " asc" in (asked.get("order_by") or ""):
            found = reversed([*found])
        page = islice(found, start, start + length)
        return [rq_job.serialize_job(BenchJob(record)) for record in page]

    @staticmethod
    def get_count(args: Any = None, **asked: Any) -> int:
        """How many jobs the site has."""
        asked = {**(args or {}), **asked}
        _require_permission("RQ Job", asked)
        if not transport.is_installed():
            return int(frappe.call(rq_job.RQJob.get_count, args=asked, **asked))
        return sum(1 for _ in _records(asked.get("filters")))

    @frappe.whitelist()  # type: ignore[untyped-decorator]
    def retry(self) -> str:
        """Send it once more; gives its id."""
        return str(retry_job(self.name))


class RQWorker(rq_worker.RQWorker):  # type: ignore[misc]
    """A worker, as Frappe's page shows it."""

    @staticmethod
    def get_list(args: Any = None, **asked: Any) -> list[Any]:
        """A page of the workers, as Frappe makes it."""
        asked = {**(args or {}), **asked}
        _require_permission("RQ Worker", asked)
        return list(frappe.call(rq_worker.RQWorker.get_list, args=asked, **asked))

    @staticmethod
    def get_count(args: Any = None, **asked: Any) -> int:
        """How many workers there are."""
        asked = {**(args or {}), **asked}
        _require_permission("RQ Worker", asked)
        return int(frappe.call(rq_worker.RQWorker.get_count, args=asked, **asked))


@frappe.whitelist()  # type: ignore[untyped-decorator]
def retry_job(job_id: str) -> str:
    """Send an ended job once more; gives its id."""
    frappe.only_for(SYSTEM_MANAGER)
    job = frappe.get_doc("RQ Job", job_id).job
    try:
        with refusals():
            again = job.requeue()
    except InvalidJobOperation as error:
        frappe.throw(str(error), title=frappe._("Invalid Operation"))
    return str(again.id)


@frappe.whitelist()  # type: ignore[untyped-decorator]
def remove_failed_jobs() -> None:
    """Forget the site's failed jobs."""
    frappe.only_for(SYSTEM_MANAGER)
    if not transport.is_installed():
        rq_job.remove_failed_jobs()
        return
    for record in [*_records([["RQ Job", "status", "=", "failed"]])]:
        runtime().ledger.forget(record.message)


def _require_permission(doctype: str, asked: Mapping[str, Any]) -> None:
    """Raise Frappe's PermissionError, unless Frappe's query asks, which has checked it itself.

    The Desk's list view passes on what a browser sends, but Frappe removes ``user`` from that.
    """
    if "user" not in asked:
        frappe.has_permission(doctype, throw=True)


def _records(asked: Any) -> Iterator[Record]:
    """The site's jobs that match the page's filters, latest first."""
    here, filters = runtime(), make_filter_dict(asked or [])
    queues = rq_job._eval_filters(filters.get("queue"), [*here.settings.queues])
    names = rq_job._eval_filters(filters.get("status"), rq_job.JOB_STATUSES)
    statuses = [status for status, name in STATUSES.items() if name.value in names]
    if not queues or not statuses:
        return iter(())
    return here.listing.latest([frappe.local.site], statuses, queues)
