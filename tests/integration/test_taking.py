"""What a worker takes from several queues, while it is busy and while jobs wait for their time."""

from __future__ import annotations

import os
import signal
import time
from uuid import uuid4

import pytest
from acme import tasks
from kombu import Connection

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

QUEUES = ("short", "default", "long")
#: Seconds within which something happens that is to happen now, on a busy machine.
NOW = 15
#: Seconds that a job waits for its next attempt, where it must not be in anybody's way.
LATER = 300


class Held:
    """A job that runs until it is let go, at the end of the block at the latest."""

    def __init__(self, bench, queue="default"):
        self.until = bench.path / f"until-{uuid4()}"
        self.job = frappe.enqueue(tasks.hold, queue, until=str(self.until))

    def let_go(self):
        self.until.touch()

    def __enter__(self):
        wait_until(lambda: self.job.get_status() == "started", NOW)
        return self

    def __exit__(self, *error):
        self.let_go()


def waits_for_its_time(queue="default"):
    """A job that has failed once, and will be tried again much later."""
    job = frappe.enqueue(tasks.fail, queue, retry=frappe.Retry(1, LATER))
    wait_until(lambda: job.get_status() == "queued" and retries(job) == 1, NOW)
    return job


def retries(job):
    here = runtime.current()
    return int(
        here.ledger.redis.hget(f"{here.settings.prefix}record:{job.message_id}", "retries") or 0
    )


def names(bench):
    return [mark["name"] for mark in bench.marks("sleep")]


def test_jobs_that_wait_for_their_next_attempt_are_in_nobodys_way(on_each_broker):
    with on_each_broker.worker("--concurrency", "2"):
        for queue in QUEUES:
            for _ in range(3):
                waits_for_its_time(queue)
        jobs = [frappe.enqueue(tasks.ping, queue) for queue in QUEUES * 2]
        assert [job.wait(NOW) for job in jobs] == ["pong"] * 6


def test_a_busy_worker_leaves_all_of_its_queues_to_the_others(on_each_broker):
    with on_each_broker.worker(), Held(on_each_broker, "short") as held:
        jobs = [frappe.enqueue(tasks.ping, queue) for queue in QUEUES * 2]
        assert [runtime.current().broker.depth(queue) for queue in QUEUES] == [2, 2, 2]
        with on_each_broker.worker():
            assert [job.wait(NOW) for job in jobs] == ["pong"] * 6
        assert held.job.get_status() == "started"


def test_a_worker_with_a_process_left_takes_one_job_of_all_its_queues(on_each_broker):
    here = runtime.current()
    with on_each_broker.worker("--concurrency", "2"), Held(on_each_broker, "long") as held:
        jobs = [frappe.enqueue(tasks.hold, queue, until=str(held.until)) for queue in QUEUES]
        wait_until(lambda: len(on_each_broker.marks("hold")) == 2, NOW)
        wait_until(lambda: sum(map(here.broker.depth, QUEUES)) == 2, NOW)
        held.let_go()
        assert [job.wait(NOW) for job in jobs] == [None] * 3


@pytest.mark.parametrize("busy_with", ["short", "default"])
def test_at_front_goes_first_whatever_queue_the_worker_is_busy_with(on_each_broker, busy_with):
    with on_each_broker.worker("--queue", "short,default,long"):
        with Held(on_each_broker, busy_with):
            for name in ("ordinary 1", "ordinary 2"):
                frappe.enqueue(tasks.sleep, seconds=0, name=name)
            for name in ("front 1", "front 2"):
                frappe.enqueue(tasks.sleep, seconds=0, name=name, at_front=True)
        wait_until(lambda: len(names(on_each_broker)) == 4, NOW)
    assert names(on_each_broker) == ["front 1", "front 2", "ordinary 1", "ordinary 2"]


def test_earlier_queues_go_first(on_each_broker):
    with on_each_broker.worker("--queue", "long,short"):
        with Held(on_each_broker, "short"):
            for queue in ("short", "long", "short", "long"):
                frappe.enqueue(tasks.sleep, queue, seconds=0, name=queue)
        wait_until(lambda: len(names(on_each_broker)) == 4, NOW)
    assert names(on_each_broker) == ["long", "long", "short", "short"]


def test_a_retry_joins_its_queue_when_its_time_has_come(on_each_broker):
    with on_each_broker.worker() as worker:
        job = frappe.enqueue(tasks.fail_first, retry=frappe.Retry(1, 3))
        wait_until(lambda: "Retry in 3s" in worker.log, NOW)
        with Held(on_each_broker):
            for number in range(3):
                frappe.enqueue(tasks.sleep, seconds=0, name=str(number))
            due = runtime.current().ledger.read(job.message_id).due
            wait_until(lambda: time.time() > due + 0.5, NOW)  # while the worker is busy
            wait_until(lambda: job.position == 3, NOW)  # nobody holds it
        assert job.wait(NOW) == 2
        job.refresh()
        before = [mark for mark in on_each_broker.marks("sleep") if mark["at"] < job.ended_at]
        assert len(before) == 3


def test_a_retry_whose_time_has_come_does_not_wait_for_a_busy_worker(on_rabbitmq):
    with on_rabbitmq.worker() as first:
        job = frappe.enqueue(tasks.fail_first, retry=frappe.Retry(1, 3))
        wait_until(lambda: "Retry in 3s" in first.log, NOW)
        with Held(on_rabbitmq) as held:
            with on_rabbitmq.worker():
                assert job.wait(NOW) == 2
            assert held.job.get_status() == "started"


def test_what_a_killed_worker_ran_delays_no_other_job(on_rabbitmq):
    with on_rabbitmq.worker("--concurrency", "2") as killed:
        with Held(on_rabbitmq, "short") as one, Held(on_rabbitmq, "default") as another:
            with on_rabbitmq.worker("--concurrency", "2") as other:
                os.killpg(killed.process.pid, signal.SIGKILL)
                # Their leases live for a minute: each is put back until they are over.
                wait_until(lambda: other.log.count("Retry in") == 2, NOW)
                jobs = [frappe.enqueue(tasks.ping, queue) for queue in QUEUES]
                assert [job.wait(NOW) for job in jobs] == ["pong"] * 3
                assert [held.job.get_status() for held in (one, another)] == ["started"] * 2


def test_queues_that_are_deleted_are_there_again_when_the_worker_looks_for_them(on_rabbitmq):
    with on_rabbitmq.worker() as worker:
        with Held(on_rabbitmq, "short"), Connection(on_rabbitmq.amqp_url) as connection:
            for queue in ("default", "long"):
                connection.default_channel.queue_delete(f"{on_rabbitmq.id}:{queue}")
        assert [frappe.enqueue(tasks.ping, queue).wait(NOW) for queue in QUEUES] == ["pong"] * 3
        assert worker.process.poll() is None


def test_a_flood_of_retries_is_put_aside_while_jobs_run(on_rabbitmq):
    with on_rabbitmq.worker("--concurrency", "2"):
        waiting = frappe.enqueue_many(
            {"method": tasks.fail, "retry": frappe.Retry(1, LATER)} for _ in range(40)
        )
        wait_until(lambda: all(retries(job) for job in waiting), 4 * NOW)
    with on_rabbitmq.worker():  # another one: it finds them all in the queue
        assert frappe.enqueue(tasks.ping).wait(NOW) == "pong"
        assert frappe.enqueue(tasks.ping, "long").wait(NOW) == "pong"
