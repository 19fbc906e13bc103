"""What a worker does every now and then for those who watch the bench."""

from __future__ import annotations

from typing import Any

from frappe_jobs.celery.reporting import report_of
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.reports import PACE, Reports
from frappe_jobs.runtime import Runtime


def watch(runtime: Runtime, consumer: Any, ledger: Ledger) -> None:
    """Say that it runs, and fold the minutes that are over, one worker of the bench at a time."""
    Reports(ledger).tell(report_of(consumer, runtime))
    if ledger.take_turn("history", PACE):
        runtime.folding.fold()
