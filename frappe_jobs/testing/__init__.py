"""For tests of apps that use frappe_jobs: docs/testing.md."""

from __future__ import annotations

from frappe_jobs.testing.benches import bench, forget_jobs, rolled_back
from frappe_jobs.testing.clocks import Clock, clock
from frappe_jobs.testing.running import enqueued, run_due, run_jobs
from frappe_jobs.testing.waiting import slowness, wait_until

__all__ = [
    "Clock", "bench", "clock", "enqueued", "forget_jobs", "rolled_back",
    "run_due", "run_jobs", "slowness", "wait_until",
]  # fmt: skip
