"""A message that comes back after its job has ended, from the broker itself, runs nothing."""

from __future__ import annotations

import pytest
from acme import once, tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until


@pytest.fixture
def bench(on_each_broker):
    tasks.install()
    frappe.new_doc("Account", name="cash").insert()
    frappe.db.commit()
    return on_each_broker


def balance():
    frappe.db.rollback()  # what it saw before
    return frappe.get_doc("Account", "cash").balance


def run_once(worker):
    """A job that has ended: its message."""
    job = frappe.enqueue(once.deposit)
    assert job.wait(20) == 5
    wait_until(lambda: f"[{job.message_id}] succeeded" in worker.log, 20)
    return runtime.current().ledger.read(job.message_id).message


def send_again(message, worker, said):
    """Deliver it once more, and wait until the worker says that of it."""
    runtime.current().broker.send_again([message])
    wait_until(lambda: said in worker.log, 20)


def test_after_its_record_has_run_out(bench):
    with bench.worker("--queue", "default") as worker:
        message = run_once(worker)
        runtime.current().ledger.forget(message)
        send_again(message, worker, "had ended before; its message is dropped")
    assert balance() == 5


def test_after_redis_was_flushed(bench):
    with bench.worker("--queue", "default") as worker:
        message, here = run_once(worker), runtime.current()
        here.ledger.redis.delete(*here.ledger.redis.scan_iter(f"{here.settings.prefix}*"))
        send_again(message, worker, "was done before, and nobody had noted it")
        assert frappe.get_job(message.job_id).wait(20) == 5
    assert balance() == 5
