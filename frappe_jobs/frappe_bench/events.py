"""What Frappe tells us: a Scheduled Job Type has changed, the app comes or goes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import frappe

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.frappe_bench import doctypes, way_in
from frappe_jobs.frappe_bench.composition import runtime

logger = logging.getLogger(__name__)


def scheduled_job_type_changed(doc: Any, event: str | None = None) -> None:
    """Bring the scheduler's entries of the site in line, once, after the commit."""
    db, site = frappe.local.db, frappe.local.site
    if any(isinstance(one, _Change) for one in db.after_commit._functions):
        return
    db.after_commit.add(_Change(site))


class _Change:
    """The site's schedule is other than it was."""

    def __init__(self, site: str) -> None:
        self._site = site

    def __call__(self) -> None:
        bring_in_line(self._site)


def bring_in_line(site: str) -> None:
    """What cannot be done now, the scheduler's own comparison does within minutes."""
    if way_in.state(_sites_path()) != "on":
        return
    try:
        runtime().sync.compare([site])
    except FrappeJobsError as error:
        logger.error("the schedule of %s is brought in line later: %s", site, error)


def after_migrate() -> None:
    doctypes.make()
    bring_in_line(frappe.local.site)


def after_install() -> None:
    """The bench goes to Celery with the first site that the app is installed on."""
    doctypes.make()
    if way_in.state(_sites_path()) == "undecided":
        way_in.switch_on(_sites_path())
    bring_in_line(frappe.local.site)


def before_uninstall() -> None:
    """The site's entries leave the scheduler; with the last site the bench goes back to RQ."""
    doctypes.remove_field()
    here, site = runtime(), frappe.local.site
    here.sync.forget(site)
    others = [one for one in here.host.sites() if one != site]
    if not any("frappe_jobs" in here.host.on(one, frappe.get_installed_apps) for one in others):
        way_in.switch_off(_sites_path(), remember=False)


def _sites_path() -> Path:
    return Path(frappe.local.sites_path).resolve()
