"""Frappe's own Scheduled Job Types, as the scheduler needs them; a site must be open."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from inspect import signature
from typing import Any
from zoneinfo import ZoneInfo

import frappe
from frappe.core.doctype.scheduled_job_type import scheduled_job_type as frappes
from frappe.utils import cint, get_datetime, get_system_timezone
from frappe.utils.scheduler import schedule_jobs_based_on_activity

from frappe_jobs.cron import check
from frappe_jobs.errors import BadCron, UnknownFrequency
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq import transport
from frappe_jobs.host.own_methods import SCHEDULED_JOB_FAILED
from frappe_jobs.host.schedule_records import AGAINST, JobType, ScheduledCall, ScheduledJob
from frappe_jobs.scheduler.frequency import Schedule, queue_of
from frappe_jobs.scheduler.queueing import next_due, skip

logger = logging.getLogger(__name__)

DOCTYPE = "Scheduled Job Type"
EVENT = "Scheduler Event"
LOG = "Scheduled Job Log"
#: Frappe's own function that runs a scheduled job, and keeps its log.
RUN = f"{frappes.__name__}.{frappes.run_scheduled_job.__name__}"
#: The argument by which later versions find the record; Frappe 15 finds it by the method.
NAME = "scheduled_job_type"
FINDS_BY_NAME = NAME in signature(frappes.run_scheduled_job).parameters
#: Whether it draws at random by how much a ``Long`` job comes later; later versions do not.
SPREADS_LONG = not {"randint", "random"}.isdisjoint(
    frappes.ScheduledJobType.get_next_execution.__code__.co_names
)
#: Ours, if Frappe's finds the record by the method: several records of events may share a method.
RUN_OF_EVENT = f"{__name__}.run_scheduled_job"


class SiteSchedule:
    """The open site's part of the schedule."""

    def inactive(self) -> str | None:
        """Frappe's own reasons, besides those in the site's configuration."""
        if not cint(frappe.db.get_single_value("System Settings", "enable_scheduler")):
            return "disabled in its System Settings"
        return None if schedule_jobs_based_on_activity() else "dormant"

    def time_zone(self) -> str:
        return str(get_system_timezone())

    def events(self) -> Mapping[str, Any]:
        found = {app: frappe.get_hooks("scheduler_events", app_name=app, default={})
                 for app in frappe.get_installed_apps()}  # fmt: skip
        return {app: events for app, events in found.items() if events}

    def job_types(self) -> list[JobType]:
        """The site's records; none before its first migrate."""
        if not frappe.db.table_exists(DOCTYPE):
            return []
        zone = _zone()
        rows = frappe.get_all(DOCTYPE, fields=["*"], order_by=None)
        return [_readable_job_type(row, zone) for row in rows]

    def set_last_executions(self, times: Mapping[str, datetime]) -> None:
        """Replace times that a wrong clock wrote."""
        zone = _zone()
        for name, at in times.items():
            naive = at.astimezone(zone).replace(tzinfo=None)
            frappe.db.set_value(DOCTYPE, name, "last_execution", naive, update_modified=False)
        frappe.db.commit()

    def change(
        self, add: Sequence[ScheduledJob], change: Mapping[str, ScheduledJob], remove: Sequence[str]
    ) -> list[JobType]:
        """Add and remove records as Frappe's migrate does, which replaces what has changed."""
        for name in (*change, *remove):
            frappe.delete_doc(DOCTYPE, name)
        for job in (*add, *change.values()):
            expression = [job.cron_format] if job.cron_format else []  # else Frappe's own default
            frappes.insert_single_event(job.frequency, job.method, *expression)
        frappe.db.commit()
        return self.job_types()


class ScheduledJobType(frappes.ScheduledJobType):  # type: ignore[misc]
    """Frappe's, with the times of our scheduler; the offset of a ``Long`` job is fixed.

    It may belong to a Scheduler Event: then no migrate deletes it.
    """

    name: Any
    method: Any

    def autoname(self) -> None:
        """As Frappe does; if it belongs to an event, its method may be the event's.

        If Frappe names a record after its method, the event's name is added.
        """
        if event := self.get("scheduler_event"):
            self.method = self.method or method_of_event(frappe.get_doc(EVENT, event))
            if not self.method:
                frappe.throw(
                    frappe._("Neither Scheduler Event {0} nor a hook {1} names a method.").format(
                        event, AGAINST
                    )
                )
        if hasattr(frappes.ScheduledJobType, "autoname"):
            super().autoname()
            if event:
                self.name = f"{self.name}-{event}"

    def validate(self) -> None:
        """As Frappe does; and the expression must be valid, as it counts for every frequency."""
        super().validate()
        if self.cron_format:
            try:
                check(self.cron_format)
            except BadCron as error:
                frappe.throw(str(error), title=frappe._("Bad Cron Expression"))

    @property
    def rq_job_id(self) -> str:
        """The id by which Frappe sees whether its job waits or runs."""
        return scheduled_call(self.name, self.method).job_id

    def enqueue(self, force: bool = False) -> bool:
        """As Frappe does; also for an event's record, which Frappe's function may not find."""
        call = scheduled_call(self.name, self.method)
        if call.method == RUN:
            return bool(super().enqueue(force))
        if not (force or self.is_event_due()) or self.is_job_in_queue():
            return False
        frappe.enqueue(
            call.method, queue=self.get_queue_name(), job_id=self.rq_job_id, **call.arguments
        )
        return True

    def get_next_execution(self) -> datetime:
        """Naive, in the site's time zone, like all of its times."""
        zone = _zone()
        schedule = Schedule.of(
            self.frequency, self.method, frappe.local.site,
            cron_format=self.cron_format or "",
            interval=cint(frappe.get_conf().scheduler_interval) or 240,
            spreads_long=SPREADS_LONG,
        )  # fmt: skip
        last = _aware(self.last_execution or self.creation, zone)
        return schedule.next_run(last, zone).replace(tzinfo=None)


@frappe.whitelist()  # type: ignore[untyped-decorator]
def skip_next_execution(doc: str) -> Any:
    """Leave out the next due time of that Scheduled Job Type; for the form's button.

    Frappe's writes a last execution in the future, which only a wrong clock does elsewhere.
    """
    if not transport.is_installed():
        return frappes.skip_next_execution(doc)
    frappe.only_for("System Manager")
    job_type = frappe.get_doc(DOCTYPE, frappe.parse_json(doc).get("name"))
    here, site = runtime(), frappe.local.site
    due = next_due(here.timetable.stored(site).get(job_type.name))
    if due is None or not skip(here.ledger, due):
        frappe.throw(frappe._("There is nothing to skip."), title=frappe._("Invalid Operation"))
    return job_type


def run_scheduled_job(job_type: str) -> None:
    """Run the Scheduled Job Type of that name, as Frappe's own function does by its method."""
    try:
        frappe.get_doc(DOCTYPE, job_type).execute()
    except Exception:
        logger.exception("Scheduled Job Type %s of %s", job_type, frappe.local.site)


def scheduled_call(name: str, method: str) -> ScheduledCall:
    """The call with which the scheduler runs it."""
    if FINDS_BY_NAME:
        return ScheduledCall(RUN, name, {"job_type": method, NAME: name}, SCHEDULED_JOB_FAILED)
    is_of_event = name != ".".join(method.split(".")[-2:])
    path, key = (RUN_OF_EVENT, name) if is_of_event else (RUN, method)
    return ScheduledCall(path, key, {"job_type": key}, SCHEDULED_JOB_FAILED)


def method_of_event(event: Any) -> str | None:
    """A Scheduler Event's method: its own, or that of the apps' hooks for its doctype."""
    against: Mapping[str, Any] = frappe.get_hooks(AGAINST) or {}
    named = against.get(event.scheduled_against)
    found = event.method or (named[-1] if isinstance(named, list) else named)
    return found and str(found)


def clear_events(all_events: list[str]) -> None:
    """Frappe's last step of sync_jobs, which deletes what no hook names, but no event's records."""
    of_events: list[str] = []
    if frappe.get_meta(DOCTYPE).has_field("scheduler_event"):
        of_events = frappe.get_all(DOCTYPE, {"scheduler_event": ("is", "set")}, pluck="method")
    _clear_events([*all_events, *of_events])


_clear_events = frappes.clear_events
# In versions that give it only the hooks' methods; later ones keep an event's records themselves.
if "all_events" in signature(_clear_events).parameters:
    # Each sync_jobs loads this class before it deletes, also while the bench is on RQ.
    frappes.clear_events = clear_events


def note_failure(job: Any, _connection: Any, _type: Any, value: Any, _traceback: Any) -> None:
    """End the log of a run whose process was killed, which could not do it."""
    found: dict[str, Any] = job.kwargs["kwargs"]
    name = found.get(NAME) or found["job_type"]
    if not FINDS_BY_NAME and job.kwargs.get("method") == RUN:
        name = frappe.db.get_value(DOCTYPE, {"method": name})
    begun = {"scheduled_job_type": name, "status": ("in", ("Start", "Scheduled"))}
    for log in frappe.get_all(LOG, begun, pluck="name"):
        frappe.db.set_value(LOG, log, {"status": "Failed", "details": str(value)})


def _zone() -> ZoneInfo:
    """The site's time zone; UTC if its System Settings name none that exists, as for its jobs."""
    try:
        return ZoneInfo(str(get_system_timezone()))
    except (ValueError, OSError, LookupError):
        return ZoneInfo("UTC")


def _readable_job_type(row: Any, zone: ZoneInfo) -> JobType:
    """A record that SQL has damaged must not keep others from being scheduled."""
    try:
        return _job_type(row, zone)
    except (AttributeError, TypeError, ValueError) as error:
        fault = f"{type(error).__name__}: {error}"
        now = datetime.now(zone).replace(tzinfo=None)
        readable = frappe._dict(row, creation=now, last_execution=None)
        return replace(_job_type(readable, zone), fault=fault)


def _job_type(row: Any, zone: ZoneInfo) -> JobType:
    return JobType(
        name=row.name,
        method=row.method,
        frequency=row.frequency,
        cron_format=row.cron_format or "",
        queue=_queue_of(row.frequency),
        stopped=bool(row.stopped),
        has_event=bool(row.server_script or row.get("scheduler_event")),
        is_script=bool(row.server_script),
        creation=_aware(row.creation, zone),
        last_execution=_aware(row.last_execution, zone) if row.last_execution else None,
        spreads_long=SPREADS_LONG,
    )


def _queue_of(frequency: object) -> str:
    try:
        return queue_of(str(frequency))
    except UnknownFrequency:  # making its entry reports it
        return ""


def _aware(value: Any, zone: ZoneInfo) -> datetime:
    """Frappe's records are naive, in the site's time zone."""
    found: datetime = get_datetime(value)
    return found.replace(tzinfo=zone)
