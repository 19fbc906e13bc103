"""Add, change and remove scheduled jobs, for the commands and the pages."""

from __future__ import annotations

from typing import Any

from frappe_jobs import api
from frappe_jobs.cron import check
from frappe_jobs.errors import ScheduleError, shortened
from frappe_jobs.rows.scheduled_jobs import DOCTYPE, find
from frappe_jobs.runtime import Runtime
from frappe_jobs.scheduler.frequency import FREQUENCIES, frequency_named

EVENT = "Scheduler Event"


def add(
    here: Runtime, site: str, method: str, frequency: str, cron: str = "", against: str = ""
) -> str:
    """Schedule the method, and give the name of its record, which no migrate removes.

    It belongs to a Scheduler Event, made for it against that doctype.  Raises MethodNotFound,
    MethodNotAllowed, ScheduleError.
    """
    check_when(frequency, cron)
    with api.site(site):
        here.host.methods.resolve(method, site)
        if here.is_bench and not api.get_all("DocType", {"name": against}, limit=1):
            raise ScheduleError(
                f"On a bench a {EVENT} is made against a doctype; {site} has none called "
                f"{shortened(against)}."
            )
        event = api.new_doc(EVENT, scheduled_against=against or method)
        event.method = method
        event.insert()
        job = api.new_doc(
            DOCTYPE, scheduler_event=event.name, frequency=frequency, cron_format=cron
        )
        return str(job.insert().name)


def change(here: Runtime, site: str, name: str, **values: Any) -> str:
    """Give its record these values; gives its method.

    Raises DoesNotExistError, ScheduleError.
    """
    job = find(here, site, name)
    if "frequency" in values or "cron_format" in values:
        cron = values.get("cron_format", job.cron_format)
        check_when(values.get("frequency", job.frequency), cron)
    with api.site(site):
        record = api.get_doc(DOCTYPE, job.name)
        for field, value in values.items():
            setattr(record, field, value)
        record.save()
    return job.method


def delete(here: Runtime, site: str, name: str) -> str:
    """Remove its record and its logs; gives its method.  Raises DoesNotExistError."""
    job = find(here, site, name)
    with api.site(site):
        api.get_doc(DOCTYPE, job.name).delete()
    return job.method


def check_when(frequency: str, cron: str) -> None:
    """Raises UnknownFrequency, BadCron: the same on every host."""
    if cron or frequency_named(frequency) is FREQUENCIES["cron"]:
        check(cron)
