"""Who balances loads drops connections that carry nothing, and says so or not: nobody notices."""

from __future__ import annotations

import threading
import time

import pytest
from acme import tasks
from network import Network

import frappe_jobs as frappe
from frappe_jobs.brokers import kombu
from frappe_jobs.ledger import connection
from frappe_jobs.testing import wait_until

#: Seconds, of which a balancer has 30 or more.
DROPPED_AFTER = 4
OURS = 1
#: In which everybody goes on.
WANTED = 5


@pytest.fixture(autouse=True)
def _shorter(monkeypatch):
    """What ours are 10 of."""
    for module in (connection, kombu):
        monkeypatch.setattr(module, "IDLE", OURS)


@pytest.fixture(params=[True, False], ids=["with a word", "without a word"])
def network(request, broker_urls, make_bench):
    with Network(make_bench, *broker_urls, frappe_jobs_lease=30) as network:
        network.tell("drop_idle", DROPPED_AFTER, reset=request.param)
        yield network


def in_time(call):
    began = time.monotonic()
    result = call()
    assert time.monotonic() - began < WANTED
    return result


@pytest.mark.timeout(120)
def test_a_worker_wait_cancel_and_enqueue_go_on(network):
    with network.workers(1), frappe.site("site1"):
        busy = frappe.enqueue(tasks.work, seconds=DROPPED_AFTER + 2, name="busy")
        assert busy.wait(20) == "busy"
        assert in_time(lambda: frappe.enqueue(tasks.ping).wait(WANTED)) == "pong"
        long = frappe.enqueue(tasks.work, seconds=100, name="long")
        wait_until(lambda: long.get_status() == "started", 10)
        threading.Event().wait(DROPPED_AFTER + 2)
        in_time(long.cancel)
        assert in_time(lambda: frappe.enqueue(tasks.ping).wait(WANTED)) == "pong"
