"""Our doctypes, our field and our page, made on the open site unless its Frappe has them itself.

So the doctypes' files do not have the names that Frappe's own sync looks for.  All belong to our
module: an uninstall removes them.
"""

from __future__ import annotations

from pathlib import Path

import frappe
from frappe.installer import add_module_defs
from frappe.modules.import_file import import_file_by_path

from frappe_jobs.frappe_bench.schedule import DOCTYPE as SCHEDULED_JOB_TYPE
from frappe_jobs.frappe_bench.schedule import EVENT

APP = "frappe_jobs"
MODULE = "Frappe Jobs"
#: Each definition lies beside its controller.
FOLDER = Path(__file__).parents[1] / APP

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


def make() -> None:
    """Make what is missing, and update what is ours."""
    if MODULE.lower().replace(" ", "_") not in frappe.local.module_app:
        frappe.clear_cache()
        frappe.setup_module_map()
    add_module_defs(APP, ignore_if_duplicate=True)
    for path in sorted(FOLDER.glob("doctype/*/*.doctype.json")):
        name = path.parent.name.replace("_", " ").title()
        if frappe.db.get_value("DocType", name, "module") in (None, MODULE):
            import_file_by_path(str(path))
    for path in sorted(FOLDER.glob("page/*/*.json")):  # an install may come before Frappe's sync
        import_file_by_path(str(path))
    if not frappe.get_meta(SCHEDULED_JOB_TYPE).has_field(FIELD["fieldname"]):
        frappe.get_doc(FIELD).insert(ignore_permissions=True)
        frappe.clear_cache(doctype=SCHEDULED_JOB_TYPE)


def remove_field() -> None:
    """Remove our field, its column, and the Scheduled Job Types that belong to an event."""
    key = {name: FIELD[name] for name in ("dt", "fieldname", "module")}
    field = frappe.db.get_value("Custom Field", key)
    if field is None:  # the field is Frappe's own, or was never made
        return
    for name in frappe.get_all(
        SCHEDULED_JOB_TYPE, {"scheduler_event": ("is", "set")}, pluck="name"
    ):
        frappe.delete_doc(SCHEDULED_JOB_TYPE, name)
    frappe.delete_doc("Custom Field", field, force=True)
    frappe.clear_cache(doctype=SCHEDULED_JOB_TYPE)
    frappe.db.sql_ddl(f"alter table `tab{SCHEDULED_JOB_TYPE}` drop column `scheduler_event`")
