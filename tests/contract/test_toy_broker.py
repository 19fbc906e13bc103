"""A broker that only knows the port: docs/architecture.md says that nothing else is needed."""

from __future__ import annotations

import time
from collections import defaultdict, deque

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs.brokers.base import Broker, BrokerServer
from frappe_jobs.sweep import sweep


class ToyBroker(Broker):
    """Keeps the messages in this process."""

    is_searchable = True

    def __init__(self):
        self._queues = defaultdict(deque)

    def publish(self, sendings, recorder):
        allowed = recorder.record(sendings)
        went = [one.message for one, may in zip(sendings, allowed, strict=True) if may]
        self.send_again(went)
        recorder.sent(went)
        return allowed

    def send_for_later(self, messages):
        self.send_again([message for message, _ in messages])

    def send_again(self, messages):
        for one in messages:
            queue = self._queues[one.queue]
            (queue.appendleft if one.at_front else queue.append)(one)

    def lost(self, messages):
        return [one for one in messages if one not in self._queues[one.queue]]

    def discard(self, messages):
        here = [one for one in messages if one in self._queues[one.queue]]
        for one in here:
            self._queues[one.queue].remove(one)
        return {one.id for one in here}

    def send_task(self, task, arguments, *, queue, at_front, time_limits):
        raise NotImplementedError

    def queue_name(self, queue):
        return queue

    def depth(self, queue):
        return len(self._queues[queue])

    def forget(self):
        self._queues.clear()

    def stop(self, message):
        raise NotImplementedError

    def server(self):
        return BrokerServer("Toy")

    def workers(self):
        return []

    def served(self):
        return set()

    def take(self, queue):
        return self._queues[queue].popleft()


@pytest.fixture
def here(bench):
    here = bench.use()
    vars(here)["broker"] = ToyBroker()
    return here


def burst(here, queue="default"):
    """What a worker does until nothing waits."""
    while here.broker.depth(queue):
        message = here.broker.take(queue)
        here.executor.execute(message, holder="toy", timed_out=TimeoutError)


def test_jobs_are_sent_run_in_order_and_have_results(here):
    with frappe.site("site1"):
        jobs = [frappe.enqueue(tasks.add, x=1, y=number) for number in range(3)]
        first = frappe.enqueue(tasks.add, x=9, y=9, at_front=True)
    burst(here)
    assert [job.wait(1) for job in (*jobs, first)] == [1, 2, 3, 18]
    assert first.started_at < jobs[0].started_at < jobs[2].started_at


def test_a_job_is_cancelled_before_it_runs(here):
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.add, x=1, y=1)
    assert job.cancel() and here.broker.depth("default") == 0
    burst(here)
    assert (job.get_status(), job.attempt) == ("cancelled", 0)


def test_of_two_with_one_id_one_is_sent(here):
    with frappe.site("site1"):
        one = frappe.enqueue(tasks.ping, job_id="only", deduplicate=True)
        other = frappe.enqueue(tasks.ping, job_id="only", deduplicate=True)
    assert other is None and here.broker.depth("default") == 1
    burst(here)
    assert one.wait(1) == "pong"


def test_what_it_has_lost_is_sent_again(here):
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping)
    here.broker.forget()
    later = time.time() + 10 * here.settings.lease
    assert [one.message.id for one in sweep(here.settings, here.ledger, here.broker, later)] == [
        job.message_id
    ]
    burst(here)
    assert job.wait(1) == "pong"
