"""What schedules may be made against: a doctype, and perhaps the method of its schedules."""

from __future__ import annotations

import frappe
from frappe.model.document import Document

from frappe_jobs.frappe_bench.schedule import DOCTYPE as SCHEDULED_JOB_TYPE
from frappe_jobs.frappe_bench.schedule import method_of_event


class SchedulerEvent(Document):  # type: ignore[misc]
    """Its Scheduled Job Types are made by people or apps, and no migrate deletes them."""

    def on_update(self) -> None:
        """Give its new method to its schedules that had the old method."""
        before = self.get_doc_before_save()
        old, new = before and method_of_event(before), method_of_event(self)
        if not old or not new or old == new:
            return
        filters = {"scheduler_event": self.name, "method": old}
        for name in frappe.get_all(SCHEDULED_JOB_TYPE, filters, pluck="name"):
            job_type = frappe.get_doc(SCHEDULED_JOB_TYPE, name)
            job_type.method = new
            job_type.save()
