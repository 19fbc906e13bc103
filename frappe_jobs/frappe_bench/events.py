"""Frappe's events: a Scheduled Job Type has changed, the app is installed or uninstalled."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import frappe

from frappe_jobs.deploy import leaving
from frappe_jobs.frappe_bench import doctypes, installed, way_in
from frappe_jobs.frappe_bench.host import tables
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq import transport
from frappe_jobs.host.own_methods import RELAY_OUTBOX, SETTLE_BACKGROUND_TASKS
from frappe_jobs.ledger.record import QUEUED

#: Jobs of ours that see to the records of one site.
UPKEEP = (RELAY_OUTBOX, SETTLE_BACKGROUND_TASKS)


def scheduled_job_type_changed(doc: Any, event: str | None = None) -> None:
    """Bring the scheduler's entries of the site in line, once, after the commit."""
    waiting = frappe.local.db.after_commit
    if not any(getattr(call, "func", None) is bring_in_line for call in waiting._functions):
        waiting.add(partial(bring_in_line, frappe.local.site))


def bring_in_line(site: str) -> None:
    if way_in.state(_sites_path()) == "on":
        runtime().schedule_changed(site)


def background_task_added(doc: Any, event: str | None = None) -> None:
    """Have the job of Frappe's own enqueue_task wait in the outbox for the commit."""
    if transport.is_installed():
        import_module("frappe_jobs.frappe_bench.rq.at_commit").see_to_calls()


def after_migrate() -> None:
    doctypes.make()
    tables.make()
    bring_in_line(frappe.local.site)


def after_install() -> None:
    """Switch the bench to Celery with the first site that gets the app, unless it was switched off.

    Then only ``use-celery on`` switches it on.
    """
    doctypes.make()
    tables.make()
    state = way_in.state(_sites_path())
    if state == "undecided":
        way_in.switch_on(_sites_path())
    elif state == "off":
        click.echo("frappe_jobs: the bench stays on RQ. To switch it: bench use-celery on")
    bring_in_line(frappe.local.site)


def before_uninstall() -> None:
    """Remove the site's entries from the scheduler; with the last site switch the bench to RQ.

    Then nothing of the bench stays on its servers, unless it is still used.
    """
    doctypes.remove_fields()
    tables.remove()
    site = frappe.local.site
    runtime().sync.of(site).forget()
    _cancel_upkeep(site)
    if installed.anywhere(but=site, unknown=True):
        return
    if way_in.state(_sites_path()) == "on":
        way_in.switch_off(_sites_path(), remember=False)
        transport.uninstall()  # the rest of the uninstall enqueues jobs on RQ
    _leave()


def _cancel_upkeep(site: str) -> None:
    """What waits to be seen to in the site's records goes with them."""
    here = runtime()
    waiting = [
        record.message
        for record in here.ledger.records(site)
        if record.status == QUEUED and record.message.method in UPKEEP
    ]
    here.jobs.cancel_waiting(waiting, "the app left the site")


def _leave() -> None:
    here = runtime()
    waiting = here.ledger.waiting_in_all()
    if waiting or leaving.who_is_there(here.broker, here.timetable):
        click.echo(
            f"frappe_jobs: this bench's data stays on its servers, with {waiting} jobs that wait. "
            "Once its workers and its scheduler are stopped, remove it: bench use-celery off "
            "--forget"
        )
    else:
        leaving.forget(here.in_force, here.broker)


def _sites_path() -> Path:
    return Path(frappe.local.sites_path).resolve()
