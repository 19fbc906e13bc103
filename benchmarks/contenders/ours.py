"""frappe_jobs, on a sites folder of the run's own."""

from __future__ import annotations

import frappe_jobs as frappe
from benchmarks.tasks import ARGUMENTS

METHOD = "benchmarks.tasks.noop"


def enqueue(count: int) -> None:
    with frappe.site("site1"):
        for _ in range(count):
            frappe.enqueue(METHOD, **ARGUMENTS)


def enqueue_stamp(address: str) -> None:
    with frappe.site("site1"):
        frappe.enqueue("benchmarks.tasks.stamp", address=address)


def enqueue_many(count: int) -> None:
    with frappe.site("site1"):
        frappe.enqueue_many([{"method": METHOD, **ARGUMENTS}] * count)
