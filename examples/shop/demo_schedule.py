"""The demo's part by the clock: jobs of the hooks, and one that lives in the database."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import click

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

SITE = "site1.localhost"
EVERY_SECOND, EVERY_OTHER = "* * * * * *", "* * * * * */2"


class ByTheClock:
    """What happens on one site while the scheduler runs, and what is wrong with it."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def begin(self) -> None:
        """Bring the hooks into force, and make a job in the database: in force at its commit."""
        self._migrate("2 added")
        with frappe.site(SITE):
            event = frappe.new_doc(
                "Scheduler Event", scheduled_against="Order", method="shop.tasks.remind"
            )
            event.insert()
            job = frappe.new_doc(
                "Scheduled Job Type",
                scheduler_event=event.name, frequency="Cron", cron_format=EVERY_SECOND,
            )  # fmt: skip
            self._job = job.insert().name

    def see(self) -> None:
        """Both have run; another interval is in force within seconds, and outlives a migrate."""
        wait_until(lambda: self._last("shop.tasks.check_stock"), 10)
        wait_until(lambda: self._count() >= 2, 10)
        click.echo(f"  shop.tasks.check_stock ran at {self._last('shop.tasks.check_stock'):%X}")
        click.echo(f"  shop.tasks.remind ran {self._count()} times, every second")
        with frappe.site(SITE):
            job = frappe.get_doc("Scheduled Job Type", self._job)
            job.cron_format = EVERY_OTHER
            job.save()
        changed = time.time()
        first = wait_until(lambda: self._due(after=changed + 1), 15)
        gap = wait_until(lambda: self._due(after=first), 15) - first
        click.echo(f"  and after a change every other second: it was due {gap:.0f} s apart")
        if gap != 2:
            self.wrong.append(f"shop.tasks.remind was due {gap:.1f} s apart, not 2 s")
        self._migrate("0 added, 0 changed, 0 removed, 2 unchanged")
        with frappe.site(SITE):
            kept = frappe.get_doc("Scheduled Job Type", self._job).cron_format
        if kept != EVERY_OTHER:
            self.wrong.append(f"migrate made {kept!r} of {EVERY_OTHER!r}")

    def _migrate(self, expected: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "frappe_jobs", "--site", SITE, "migrate"],
            capture_output=True, text=True,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            click.echo(f"  {line}")
        if done.returncode or expected not in done.stdout:
            self.wrong.append(f"migrate did not say {expected!r}: {done.stdout}{done.stderr}")

    def _last(self, method: str) -> Any:
        with frappe.site(SITE):
            (row,) = frappe.get_all(
                "Scheduled Job Type", {"method": method}, fields=["last_execution"]
            )
        return row["last_execution"]

    def _count(self) -> int:
        """How often the database's job has run, by its logs."""
        with frappe.site(SITE):
            return len(frappe.get_all("Scheduled Job Log", {"scheduled_job_type": self._job}))

    def _due(self, after: float) -> float | None:
        """The due time of its last run, if that was later."""
        with frappe.site(SITE):
            due = frappe.get_doc("Scheduled Job Type", self._job).last_due
        return due if due and due > after else None
