"""How a worker stops: what runs is finished or handed back, and nothing is lost."""

from __future__ import annotations

import os
import signal
import time

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.celery.stopping import TWICE
from frappe_jobs.testing import wait_until


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def config(request):
    if request.param == "rabbitmq":
        return {"celery_broker_url": request.getfixturevalue("amqp_url")}
    return {}


@pytest.fixture
def bench(make_bench, config):
    bench = make_bench(**config)
    bench.use()
    with frappe.site("site1"):
        yield bench


def begun(bench, **options):
    job = frappe.enqueue(tasks.work, **{"seconds": 60, "name": "long"} | options)
    wait_until(lambda: bench.marks("begin"), 10)
    return job


def told(worker, number=signal.SIGTERM):
    """A worker that has understood."""
    worker.process.send_signal(number)
    wait_until(lambda: "told to stop" in worker.log, 5)


def runs_again(bench, job):
    """The job that was handed back waits as before, and another worker begins it at once."""
    assert (job.get_status(), runtime.current().broker.depth("default")) == ("queued", 1)
    with bench.worker("--queue", "default"):
        wait_until(lambda: len(bench.marks("begin")) == 2, 5)  # no lease is in its way
        job.cancel()
    assert job.attempt == 2


def test_told_twice_it_hands_back_at_once(bench):
    with bench.worker("--queue", "default") as worker:
        job = begun(bench)
        told(worker)
        at = time.monotonic()
        wait_until(lambda: time.monotonic() - at > TWICE + 0.1)
        at = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - at < 5
    runs_again(bench, job)


def test_sigquit_hands_back_at_once(bench):
    with bench.worker("--queue", "default") as worker:
        job = begun(bench)
        worker.process.send_signal(signal.SIGQUIT)
        assert worker.process.wait(8) == 0
    runs_again(bench, job)


def test_when_the_grace_is_over_it_hands_back(make_bench, config):
    bench = make_bench(frappe_jobs_stop_grace=2, **config)
    bench.use()
    with frappe.site("site1"):
        with bench.worker("--queue", "default") as worker:
            job = begun(bench)
            at = time.monotonic()
            assert worker.stop() == 0
            assert 2 <= time.monotonic() - at < 8
        runs_again(bench, job)


def test_sigterm_to_process_and_group_at_once_counts_as_one(bench):
    with bench.worker("--queue", "default") as worker:
        job = begun(bench, seconds=3)
        worker.process.send_signal(signal.SIGTERM)
        os.killpg(worker.process.pid, signal.SIGTERM)
        assert worker.process.wait(10) == 0
    assert (job.get_status(), job.attempt) == ("finished", 1)


def test_while_it_stops_timeouts_hold(bench):
    with bench.worker("--queue", "default") as worker:
        job = begun(bench, timeout=2)
        told(worker)
        assert worker.process.wait(10) == 0
    assert (job.get_status(), job.reason) == ("failed", "timed out after 2 s")


def test_what_waits_stays_and_what_was_fetched_goes_back(bench):
    with bench.worker("--queue", "default") as worker:
        begun(bench, seconds=2)
        waiting = [frappe.enqueue(tasks.ping) for _ in range(3)]
        again = frappe.enqueue(tasks.succeed_at_last, attempts=2, at_front=True)
        told(worker)
        assert worker.process.wait(10) == 0
    assert {job.get_status() for job in (*waiting, again)} == {"queued"}
    with bench.worker("--queue", "default", "--burst") as worker:
        assert [job.wait(10) for job in (*waiting, again)] == ["pong"] * 3 + [2]
        assert worker.process.wait(10) == 0


def test_a_workers_processes_end_with_their_parent(bench):
    with bench.worker("--queue", "default") as worker:
        job = begun(bench)
        children = worker.children
        assert children
        worker.process.kill()
        wait_until(lambda: not any(map(worker.is_alive, children)), 5)
    job.cancel()
