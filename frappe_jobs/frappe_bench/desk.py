"""The Desk's pages of jobs and workers: Frappe's own, on what our queues say."""

from __future__ import annotations

from frappe.core.doctype.rq_job import rq_job
from frappe.core.doctype.rq_worker import rq_worker

from frappe_jobs.frappe_bench import transport

# Frappe imports this module when one of the pages is opened, and theirs with it.
if transport.is_installed():
    transport.install_in_what_is_loaded()


class RQJob(rq_job.RQJob):  # type: ignore[misc]
    """A job, as Frappe's page shows it."""


class RQWorker(rq_worker.RQWorker):  # type: ignore[misc]
    """A worker, as Frappe's page shows it."""
