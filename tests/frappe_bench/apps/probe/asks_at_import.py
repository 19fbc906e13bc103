"""A module that asks its site's database while it is imported, as ERPNext has some."""

import frappe
from probe import tasks

ADMINISTRATOR = frappe.db.get_value("User", "Administrator", "name")


def tick():
    """A scheduled job."""
    if ADMINISTRATOR:
        tasks.tick()
