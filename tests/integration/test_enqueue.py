"""From enqueue to the method and back, through a real Redis and a real worker process."""

from acme import tasks

import frappe_jobs as frappe


def test_a_function_runs_in_the_worker_on_its_site_as_its_user(shared):
    with frappe.site("site2", user="grete@acme.test"):
        job = frappe.enqueue(tasks.whoami, queue="short")
    assert job.wait(10) == ["site2", "grete@acme.test", job.id, "short", "acme.tasks.whoami", 1]
    assert job.status == "finished"
