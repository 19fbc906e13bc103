"""The record of a tracked job, as a document of Frappe's."""

from __future__ import annotations

import frappe
from frappe.model.document import Document

from frappe_jobs.frappe_bench.host.task_records import DOCTYPE
from frappe_jobs.frappe_bench.tracked_task import TrackedTask


class BackgroundTask(TrackedTask, Document):  # type: ignore[misc]
    """A job that was enqueued with ``track_job=True``, where Frappe has no such doctype."""

    def attach_file(
        self,
        file_name: str,
        content: bytes,
        is_private: bool = True,
        doctype: str | None = None,
        docname: str | None = None,
    ) -> str:
        """Attach a file to that document, else to the task's own, else to the task; its URL."""
        if not (doctype and docname):
            doctype, docname = self.ref_doctype, self.ref_docname
        if not (doctype and docname):
            doctype, docname = self.doctype, self.name
        file = frappe.get_doc({
            "doctype": "File", "file_name": file_name, "content": content,
            "attached_to_doctype": doctype, "attached_to_name": docname,
            "is_private": int(is_private),
        })  # fmt: skip
        return str(file.insert(ignore_permissions=True).file_url)


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def cancel(name: str) -> bool:
    """The button Cancel Job."""
    return bool(_of_user(name).cancel())


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def run_again(name: str) -> str:
    """The button Run Again; gives the task's id."""
    _of_user(name).run_again()
    return name


def _of_user(name: str) -> BackgroundTask:
    """The task as it is stored, whatever a browser sent; refuses users who may not see it."""
    task: BackgroundTask = frappe.get_doc(DOCTYPE, name)
    task.check_permission("read")
    return task
