"""The demo's pages: of a shop that stays busy, for whoever has the password that is printed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import click

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.sites_folder import write_object
from frappe_jobs.testing import wait_until
from frappe_jobs.web.passwords import hashed

USER = "demo"


class Pages:
    """The pages, and what there is to see on them."""

    def __init__(self, sites: Path) -> None:
        self._sites = sites
        #: New for each run, and nowhere but on the terminal: the file has its hash.
        self._password = secrets.token_urlsafe(9)

    def configure(self) -> None:
        """Before the workers start: then what happens to jobs is recorded from the beginning."""
        user = {"password": hashed(self._password), "role": "admin"}
        users = {"frappe_jobs_web": {"users": {USER: user}}}
        write_object(self._sites / "common_site_config.json", users)

    def open(self, start: Callable[[], Path], site: str) -> None:
        """Make the shop busy, and say where the pages are; ``start`` gives their process's log."""
        for other in runtime.current().host.sites():
            runtime.current().sync.migrate(other)
        with frappe.site(site):
            event = frappe.new_doc(
                "Scheduler Event", scheduled_against="Order", method="shop.tasks.rush"
            )
            event.insert()
            frappe.new_doc(
                "Scheduled Job Type",
                scheduler_event=event.name, frequency="Cron", cron_format="* * * * * *",
            ).insert()  # fmt: skip
        log = start()
        wait_until(lambda: "ready" in log.read_text(), 20)
        found = re.search(r"http://\S+?/", log.read_text())
        click.echo(f"\nThe pages: {found and found[0]}")
        click.echo(f"  log in as {USER}, with the password {self._password}")
        click.echo("  (only this machine reaches them; the next `make demo` has another password)")
