"""Frappe's own Scheduled Job Types, as the scheduler needs them; the site is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import frappe
from frappe.core.doctype.scheduled_job_type import scheduled_job_type as frappes
from frappe.utils import cint, get_datetime, get_system_timezone
from frappe.utils.scheduler import schedule_jobs_based_on_activity

from frappe_jobs.hosts.base import JobType, ScheduledCall
from frappe_jobs.scheduler_events import ScheduledJob

DOCTYPE = "Scheduled Job Type"
RUN = f"{frappes.__name__}.{frappes.run_scheduled_job.__name__}"


class BenchSchedule:
    """What the scheduler asks of a site."""

    def inactive(self) -> str | None:
        """Frappe's own reasons, beside those in its configuration."""
        if not cint(frappe.db.get_single_value("System Settings", "enable_scheduler")):
            return "disabled in its System Settings"
        return None if schedule_jobs_based_on_activity() else "dormant"

    def time_zone(self) -> str:
        return str(get_system_timezone())

    def call(self, method: str) -> ScheduledCall:
        """Frappe's own: it keeps the log, and knows its job by the method."""
        return ScheduledCall(RUN, method, {"job_type": method}, None)

    def events(self) -> Mapping[str, Any]:
        found = {app: frappe.get_hooks("scheduler_events", app_name=app, default={})
                 for app in frappe.get_installed_apps()}  # fmt: skip
        return {app: events for app, events in found.items() if events}

    def job_types(self) -> list[JobType]:
        """The site's records; none before its first migrate."""
        if not frappe.db.table_exists(DOCTYPE):
            return []
        zone = ZoneInfo(self.time_zone())
        rows = frappe.get_all(DOCTYPE, fields=["*"], order_by=None)
        return [_job_type(row, zone) for row in rows]

    def change(self, add: Sequence[ScheduledJob], remove: Sequence[str]) -> None:
        """Add and remove records as Frappe's migrate does."""
        for name in remove:
            frappe.delete_doc(DOCTYPE, name)
        for job in add:
            frappes.insert_single_event(job.frequency, job.method, job.cron_format or None)


def _job_type(row: Any, zone: ZoneInfo) -> JobType:
    return JobType(
        name=row.name,
        method=row.method,
        frequency=row.frequency,
        cron_format=row.cron_format or "",
        queue="long" if "Long" in row.frequency or "Maintenance" in row.frequency else "default",
        stopped=bool(row.stopped),
        has_event=bool(row.server_script or row.get("scheduler_event")),
        is_script=bool(row.server_script),
        creation=_aware(row.creation, zone),
        last_execution=_aware(row.last_execution, zone) if row.last_execution else None,
    )


def _aware(moment: Any, zone: ZoneInfo) -> datetime:
    """Frappe's records are naive, in the site's time zone."""
    found: datetime = get_datetime(moment)
    return found.replace(tzinfo=zone)
