"""What the doctor says of sites' outboxes."""

from __future__ import annotations

import pytest
from acme import tasks
from doctored import one, worst
from sqlalchemy import update

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.cli.doctor import parts_of
from frappe_jobs.doctor.checkup import Checkup
from frappe_jobs.doctor.mending import mended
from frappe_jobs.standalone.outbox_row import OutboxRow


def sites():
    return [*Checkup(parts_of(runtime.current())).schedule()]


def enqueue():
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping, enqueue_after_commit=True)


def change(**values):
    with frappe.site("site1"):
        frappe.db.execute(update(OutboxRow).values(**values))


def ago(seconds):
    change(written_at=OutboxRow.written_at - seconds)


def of_outbox(findings):
    return [found for found in worst(findings) if "committed" in found[1] or "outbox" in found[1]]


@pytest.fixture
def bench(make_bench, server):
    """A bench with a Redis of its own, whose broker was away when a job was committed."""
    bench = make_bench(redis_queue=embedded.running(server))
    bench.use()
    embedded.stop(server)
    enqueue()
    embedded.start(server)
    return bench


def test_jobs_that_were_committed_and_not_sent_are_told_and_mended(bench):
    assert of_outbox(sites()) == []  # a worker has had no time yet
    ago(200)
    found = one(sites(), "1 job committed on site1, and not sent: the first one 3 min ago.")
    assert (found.level, "doctor --fix" in found.cure) == ("warning", True)
    assert one(mended([found]), "Mended: sent: what was committed on site1.").level == "ok"
    assert runtime.current().ledger.waiting("default") == 1
    assert of_outbox(sites()) == []


def test_what_was_sent_is_nothing_to_tell(make_bench):
    make_bench().use()
    enqueue()
    ago(200)
    assert of_outbox(sites()) == []


def test_rows_of_a_backup_are_told_with_how_they_are_deleted(bench):
    change(bench_id="elsewhere", site="shop")
    found = one(sites(), "site1: 1 row of frappe_jobs_outbox never sent")
    assert "from a backup or a copy (shop of elsewhere)" in found.what
    assert found.cure.startswith(
        "Enqueue what is missing, then delete them: DELETE FROM frappe_job"
    )
    statement = found.cure.partition("delete them: ")[2]
    with frappe.site("site1"):
        frappe.db.connection().exec_driver_sql(statement)
    assert of_outbox(sites()) == []
