"""Jobs that wait are taken back, many at a time."""

from __future__ import annotations

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs.job import CHUNK


@pytest.fixture
def rabbit(make_bench, amqp_url):
    return make_bench(celery_broker_url=amqp_url).use()


def enqueue(here, count):
    """So many jobs; the first of them runs."""
    with frappe.site("site1"):
        jobs = frappe.enqueue_many({"method": tasks.ping} for _ in range(count))
    messages = [here.ledger.read(job.message_id).message for job in jobs]
    here.ledger.start(messages[0], "a process")
    return jobs, messages


def test_what_runs_stays_and_of_the_others_no_message(bench):
    here = bench.use()
    jobs, messages = enqueue(here, CHUNK + 3)
    assert here.jobs.cancel_waiting(messages, "purged") == messages[1:]
    assert here.broker.depth("default") == 1  # nobody took it from there in this test
    assert [jobs[0].get_status(), jobs[-1].get_status()] == ["started", "cancelled"]
    assert jobs[-1].reason == "purged"
    assert here.jobs.cancel_waiting(messages, "purged") == []


def test_on_rabbitmq_the_messages_stay_and_no_worker_runs_them(rabbit):
    _, messages = enqueue(rabbit, 3)
    ended = rabbit.jobs.cancel_waiting(messages, "purged")
    assert ended == messages[1:]
    assert rabbit.broker.depth("default") == 3
    assert rabbit.ledger.buried(messages) == {one.id for one in messages[1:]}
