"""The record of a tracked job, as a document of Frappe's."""

from __future__ import annotations

from typing import Any

import frappe
from frappe.model.document import Document

from frappe_jobs.background_task.record import CANCELLED, OPEN
from frappe_jobs.frappe_bench.errors import refusals
from frappe_jobs.frappe_bench.host.session import BenchSession, runtime
from frappe_jobs.frappe_bench.host.task_records import DOCTYPE, columns_of


class BackgroundTask(Document):  # type: ignore[misc]
    """A job that was enqueued with ``track_job=True``; its name is its task id."""

    status: str
    result: str | None

    def load_from_db(self) -> None:
        """Its values, and what the job says now: while it runs, the record may be behind."""
        super().load_from_db()
        self.look()

    def look(self) -> None:
        """Take over what the job says now."""
        if self.status in OPEN:
            known = runtime().background_tasks.live(frappe.local.site, [self.message_id])
            self.update(columns_of(known.get(self.message_id, {})))

    def cancel(self) -> bool:
        """End the job without its effect: a waiting job never starts, a running job is killed.

        False, and nothing is changed, if it had already ended.  For its user and Administrator.
        """
        with refusals():
            did: bool = runtime().background_tasks.cancel(self, BenchSession())
        self.look()
        if did and self.status in OPEN:  # its job is lost
            self.status = CANCELLED
        return did

    def run_again(self) -> Any:
        """Run a job that failed or was cancelled again, when this transaction commits.

        For its user and Administrator; raises JobError if it waits, runs, or is completed.
        """
        with refusals():
            job = runtime().background_tasks.run_again(self, BenchSession())
        self.load_from_db()
        return job

    def publish_progress(self, percent: float, stage: str | None = None) -> None:
        """Say how far the job is, per cent, and what it is doing; for the job itself."""
        self._publish(percent, stage)

    def update_stage(self, stage: str) -> None:
        """Say what the job is doing; for the job itself."""
        self._publish(None, stage)

    def _publish(self, percent: float | None, stage: str | None) -> None:
        self.update(runtime().background_tasks.inside.publish(self.task_id, percent, stage))

    def store_result(self, result: Any) -> None:
        """Keep a result, as JSON, in the job's own transaction; for the job itself.

        What its method returns takes its place, unless that is None.
        """
        self.result = runtime().background_tasks.inside.store(self.task_id, result)

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

    def validate(self) -> None:
        """Refuse: it says what was sent to a worker, so nobody makes or changes it by hand."""
        frappe.throw(frappe._("A Background Task is made by enqueue(…, track_job=True)."))

    def on_trash(self) -> None:
        """Refuse while the job waits or runs."""
        if self.status in OPEN:
            frappe.throw(
                frappe._("Background Task {0} is {1}: cancel it first.").format(
                    self.name, self.status
                )
            )


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def cancel(name: str) -> bool:
    """The button Cancel Job."""
    return _of_user(name).cancel()


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
