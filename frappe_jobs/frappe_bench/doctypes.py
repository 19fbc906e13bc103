"""Our doctypes, our fields and our page, made on the open site unless its Frappe has them itself.

So the doctypes' files do not have the names that Frappe's own sync looks for.  All belong to our
module: an uninstall removes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import frappe
from frappe.installer import add_module_defs
from frappe.modules.import_file import import_file_by_path

from frappe_jobs.frappe_bench.host.task_records import DOCTYPE as BACKGROUND_TASK
from frappe_jobs.frappe_bench.schedule import DOCTYPE as SCHEDULED_JOB_TYPE
from frappe_jobs.frappe_bench.schedule import EVENT

APP = "frappe_jobs"
MODULE = "Frappe Jobs"
#: Each definition lies beside its controller.
FOLDER = Path(__file__).parents[1] / APP

#: Which Scheduler Event a Scheduled Job Type belongs to, where Frappe does not keep that itself.
FIELD = {
    "doctype": "Custom Field",
    "dt": SCHEDULED_JOB_TYPE,
    "fieldname": "scheduler_event",
    "label": EVENT,
    "fieldtype": "Link",
    "options": EVENT,
    "insert_after": "server_script",
    "search_index": 1,
    "module": MODULE,
    "is_system_generated": 1,
}

#: The job that a Background Task follows, where Frappe has a doctype of that name itself.
TASK_FIELDS = [
    {
        "doctype": "Custom Field",
        "dt": BACKGROUND_TASK,
        "fieldname": name,
        "label": name.replace("_", " ").title(),
        "fieldtype": kind,
        "insert_after": "stage",
        "hidden": 1,
        "read_only": 1,
        "no_copy": 1,
        "print_hide": 1,
        "search_index": int(kind == "Data"),
        "module": MODULE,
        "is_system_generated": 1,
    }
    for name, kind in (("message_id", "Data"), ("header", "Long Text"))
]


def make() -> None:
    """Make what is missing, and update what is ours."""
    if MODULE.lower().replace(" ", "_") not in frappe.local.module_app:
        frappe.clear_cache()
        frappe.setup_module_map()
    if not frappe.db.exists("Module Def", MODULE):  # Frappe ignores no duplicate on SQLite
        add_module_defs(APP, ignore_if_duplicate=True)
    for path in sorted(FOLDER.glob("doctype/*/*.doctype.json")):
        name = path.parent.name.replace("_", " ").title()
        if frappe.db.get_value("DocType", name, "module") in (None, MODULE):
            import_file_by_path(str(path))
    for path in sorted(FOLDER.glob("page/*/*.json")):  # an install may come before Frappe's sync
        import_file_by_path(str(path))
    for field in (FIELD, *TASK_FIELDS):
        if not frappe.get_meta(field["dt"]).has_field(field["fieldname"]):
            frappe.get_doc(field).insert(ignore_permissions=True)
            frappe.clear_cache(doctype=field["dt"])


def remove_fields() -> None:
    """Remove our fields, their columns, and the Scheduled Job Types that belong to an event."""
    if _of_ours(FIELD):
        for name in frappe.get_all(
            SCHEDULED_JOB_TYPE, {"scheduler_event": ("is", "set")}, pluck="name"
        ):
            frappe.delete_doc(SCHEDULED_JOB_TYPE, name)
    for field in filter(_of_ours, (FIELD, *TASK_FIELDS)):
        doctype, name = field["dt"], field["fieldname"]
        # Not by delete_doc, which enqueues a job for what links to it.
        frappe.db.delete("Custom Field", {"name": _of_ours(field)})
        frappe.clear_cache(doctype=doctype)
        if frappe.db.db_type == "sqlite":  # which drops no column that an index has
            if index := frappe.db.get_column_index(f"tab{doctype}", name):
                frappe.db.sql_ddl(f"drop index `{index.name}`")
        frappe.db.sql_ddl(f"alter table `tab{doctype}` drop column `{name}`")


def _of_ours(field: dict[str, Any]) -> str | None:
    """The name of our Custom Field; None if the field is the doctype's own, or was never made."""
    key = {name: field[name] for name in ("dt", "fieldname", "module")}
    found: str | None = frappe.db.get_value("Custom Field", key)
    return found
