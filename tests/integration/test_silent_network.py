"""A network that swallows packets, or freezes: nothing overlaps, and all go on afterwards."""

from __future__ import annotations

import threading
import time

import pytest
from acme import tasks
from chaos.runs import Runs
from network import Network
from proxy import DOWN

import frappe_jobs as frappe
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.testing import wait_until

#: Seconds.
LEASE = 2
CUT = 5
#: Until work goes on after the network's return, at most.
WANTED = 10

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def network(broker_urls, make_bench):
    with Network(make_bench, *broker_urls, frappe_jobs_lease=LEASE) as network:
        yield network


def begins(network, job_id):
    runs = Runs(network.bench.path / "trace.jsonl")
    return [mark for mark in runs.begins() if mark["job"] == job_id]


def run(job_id, seconds=0.0, **options):
    with frappe.site("site1"):
        return frappe.enqueue(tasks.run, job_id=job_id, number=1, seconds=seconds, **options)


@pytest.mark.parametrize(  # each of them on each broker: that is chaos'
    ("broker_urls", "how"),
    [("redis", ("swallow", DOWN)), ("rabbitmq", ("freeze",))],
    indirect=["broker_urls"],
)
def test_a_cut_ends_what_it_has_cut_off_and_work_goes_on(network, how):
    with network.workers():
        run("long", seconds=4 * CUT)  # it would be there still when it is run again
        wait_until(lambda: begins(network, "long"), 20)
        network.tell(*how)
        ends = time.monotonic() + CUT
        with pytest.raises(BrokerUnavailable):  # in time
            run("meanwhile")
        threading.Event().wait(max(0, ends - time.monotonic()))
        network.tell("restore")
        came_back = time.time()
        network.direct.use()
        run("after", at_front=True)
        wait_until(lambda: begins(network, "after"), 60)
        assert begins(network, "after")[0]["at"] - came_back < WANTED
        wait_until(lambda: len(begins(network, "long")) == 2, 60)  # its first process was killed
        frappe.get_job("long", "site1").cancel()
    assert all(mark["alone"] for mark in begins(network, "long"))


@pytest.mark.parametrize("broker_urls", ["redis", "rabbitmq"], indirect=True)
def test_an_answer_that_breaks_off_does_not_hold_a_worker(network):
    with network.workers(1) as (worker,), frappe.site("site1"):
        frappe.enqueue(tasks.ping).wait(20)
        network.ways[-1].swallow_after(3)
        wait_until(lambda: "is away or refuses" in worker.log, 60)
        network.ways[-1].restore()
        network.direct.use()
        assert frappe.enqueue(tasks.ping).wait(WANTED) == "pong"
