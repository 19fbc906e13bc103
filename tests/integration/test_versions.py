"""Messages of other versions of the wire format, while old and new workers run side by side."""

from __future__ import annotations

from uuid import uuid4

import pytest
from acme import tasks
from kombu import Connection

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.message import HEADER, TASK, VERSION
from frappe_jobs.testing import wait_until


@pytest.fixture
def bench(on_each_broker):
    return on_each_broker


def send(bench, version):
    """A job as a newer frappe_jobs would send it, with a field that ours does not know."""
    message_id = str(uuid4())
    header = {
        "version": version, "id": message_id, "job_id": message_id, "site": "site1",
        "user": "Administrator", "method": "acme.tasks.echo", "queue": "default", "name": "newer",
        "timeout": 9, "enqueued_at": 1.0, "colour": "red",
    }  # fmt: skip
    app = runtime.current().app
    with Connection(app.conf.broker_url) as connection:
        app.amqp.queues[f"{bench.id}:default"](connection.default_channel).declare()
        connection.Producer().publish(
            [[{"tag": "newer"}], {}, {}], serializer="json", routing_key=f"{bench.id}:default",
            headers={"task": TASK, "id": message_id, "lang": "py", HEADER: header},
        )  # fmt: skip


def test_the_next_version_is_read_and_what_it_adds_is_left_out(bench):
    send(bench, VERSION + 1)
    with bench.worker("--queue", "default"):
        wait_until(lambda: bench.marks("echo"), 10)


def test_a_later_version_is_put_back_for_a_newer_worker(bench):
    send(bench, VERSION + 2)
    with bench.process("worker", "--queue", "default", "--burst") as worker:
        assert frappe.enqueue(tasks.ping).wait(20) == "pong"
        assert worker.process.wait(20) == 0  # it does not wait for the newer one
    here = runtime.current()
    assert worker.log.count(f"is put back: The message's version is {VERSION + 2}") == 1
    assert bench.marks("echo") == []
    assert here.ledger.kept_aside() == []
    assert here.ledger.count_delayed(["default"]) == (1, 0, 0)
