"""A RabbitMQ that refuses, or takes no messages: the worker waits for it, or goes on without."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from acme import tasks
from chaos.servers import RabbitMQ
from doctored import one
from kombu import Connection, Queue
from proxy import Proxy

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.brokers import rabbitmq
from frappe_jobs.cli.doctor import parts_of
from frappe_jobs.doctor.checkup import Checkup
from frappe_jobs.testing import slowness, wait_until

pytestmark = pytest.mark.timeout(300)

#: Seconds at most until work goes on after the refusal's end; a busy machine is slower.
WANTED = 30
#: Seconds in which whoever asks is told that the server takes nothing.
PATIENCE = 15


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def node(stack, tmp_path_factory) -> RabbitMQ:
    if RabbitMQ.script() is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("There is no rabbitmq-server here, of which a test would start a node.")
    return stack.enter_context(RabbitMQ(tmp_path_factory.mktemp("rabbit")))


@pytest.fixture(scope="module")
def proxy(stack, node) -> Proxy:
    """The worker's way there, which can be cut."""
    return stack.enter_context(Proxy(node.url))


@pytest.fixture(scope="module")
def bench(make_bench, node, proxy):
    bench = make_bench(
        celery_broker_url=proxy.url, frappe_jobs_lease=6, frappe_jobs_timeout_grace=1
    )
    bench.amqp_url = None  # its queues end with the node
    return bench


@pytest.fixture(scope="module")
def worker(bench, stack):
    return stack.enter_context(bench.worker("--queue", "default"))


@contextmanager
def asked_by_another(node: RabbitMQ) -> Iterator[Any]:
    with Connection(node.url) as connection:
        yield connection.default_channel


@contextmanager
def without_permission(node, proxy, bench):
    node.control("set_permissions", "guest", "^$", "^$", "^$")
    proxy.reset()
    try:
        yield
    finally:
        node.control("set_permissions", "guest", ".*", ".*", ".*")


@contextmanager
def declared_otherwise(node, proxy, bench):
    name = f"{bench.id}:default"
    with asked_by_another(node) as channel:
        proxy.refuse()
        channel.queue_delete(name)
        Queue(name, channel=channel).declare()
        proxy.restore()
        try:
            yield
        finally:
            channel.queue_delete(name)


@contextmanager
def locked(node, proxy, bench):
    name = f"{bench.id}:default"
    with asked_by_another(node) as channel:
        proxy.refuse()
        channel.queue_delete(name)
        channel.queue_declare(name, exclusive=True)
        proxy.restore()
        try:
            yield
        finally:
            channel.queue_delete(name)


@contextmanager
def without_its_host(node, proxy, bench):
    node.control("delete_vhost", "/")
    try:
        yield
    finally:
        node.control("eval", 'rabbit_vhost:add(<<"/">>, <<"test">>), '
                     'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"/">>, '
                     '<<".*">>, <<".*">>, <<".*">>, <<"test">>).')  # fmt: skip


STATES = {
    "ACCESS_REFUSED": without_permission,
    "PRECONDITION_FAILED": declared_otherwise,
    "RESOURCE_LOCKED": locked,
    "NOT_ALLOWED": without_its_host,
}


@pytest.mark.parametrize("code", STATES)
def test_a_worker_waits_and_goes_on(bench, worker, node, proxy, code):
    bench.use()
    before = len(worker.lines)
    with STATES[code](node, proxy, bench):
        wait_until(lambda: any(code in line for line in worker.lines[before:]), WANTED)
        for command in (["queues"], ["--site", "site1", "enqueue", "acme.tasks.ping"]):
            done = bench.run(*command)
            assert done.returncode in (1, 69) or command == ["queues"], done
            assert done.stderr.count("\n") <= 1 and "Traceback" not in done.stderr, done
    with frappe.site("site1"):
        job = wait_until(enqueued, WANTED)
        assert job.wait(WANTED) == "pong"
    assert worker.process.poll() is None
    assert "Traceback" not in "\n".join(worker.lines[before:]), worker.log
    assert said(worker, before) <= 3, worker.log


def said(worker, since: int) -> int:
    return sum("is away or refuses" in line for line in worker.lines[since:])


UNSENT = "this worker's events and answers are not sent: Alarm"


def enqueued():
    """A job, once that can be."""
    try:
        return frappe.enqueue(tasks.ping)
    except errors.BrokerError:
        return None


def test_one_that_takes_no_messages_is_worked_for_until_there_are_none(bench, worker, node):
    """Its memory is full: the backlog drains, and what cannot be sent waits without a process."""
    bench.use()
    until = bench.path / "until"
    with frappe.site("site1"):
        held = frappe.enqueue(tasks.hold, until=str(until))
        wait_until(lambda: held.get_status() == "started", WANTED)
        again = frappe.enqueue(tasks.succeed_at_last, attempts=2)
        killed = frappe.enqueue(tasks.sleep_on, timeout=1, seconds=60, on_failure=tasks.on_failure)
        waiting = [frappe.enqueue(tasks.ping) for _ in range(20)]
        node.control("set_vm_memory_high_watermark", "0.0000001")
        wait_until(lambda: runtime.current().broker.server().alarm, WANTED)
        until.touch()
        assert [job.wait(WANTED) for job in waiting] == ["pong"] * 20
        wait_until(lambda: killed.get_status() == "failed", WANTED)
        for command in (
            ["queues"], ["doctor"], ["show-pending-jobs"], ["jobs", "list"],
            ["enqueue", "acme.tasks.ping"], ["purge-jobs"],
        ):  # fmt: skip
            began = time.monotonic()
            done = bench.run("--site", "site1", *command)
            assert time.monotonic() - began < PATIENCE, command
            assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 1, done
            assert done.returncode in (0, 1, 69), done
        with pytest.raises(errors.BrokerUnavailable, match="its memory or its disk is full"):
            frappe.enqueue(tasks.ping)
        assert frappe.get_current_job() is None
        assert bench.marks("on_failure") == []
        # It hears of the alarm at the second heartbeat that it sends meanwhile.
        wait_until(lambda: UNSENT in worker.log, WANTED)
        node.control("set_vm_memory_high_watermark", "0.6")
        assert again.wait(WANTED) == 2
        wait_until(lambda: len(bench.marks("on_failure")) == 1, WANTED)
        assert len(bench.marks("attempt")) == 2
    assert worker.process.poll() is None
    assert worker.log.count(UNSENT) == 1


@pytest.fixture(scope="class")
def full(node):
    node.control("set_vm_memory_high_watermark", "0.0000001")
    yield
    node.control("set_vm_memory_high_watermark", "0.6")


@pytest.mark.usefixtures("full")
class TestWhileItsMemoryIsFull:
    @pytest.fixture
    def bench(self, make_bench, node):
        bench = make_bench(celery_broker_url=node.url)
        bench.amqp_url = None
        bench.use()
        return bench

    def test_it_is_said_and_nothing_waits_for_ever(self, bench, monkeypatch):
        monkeypatch.setattr(rabbitmq, "CONFIRM_TIMEOUT", 0.5)
        with frappe.site("site1"):
            began = time.monotonic()
            with pytest.raises(errors.BrokerUnavailable, match="its memory or its disk is full"):
                frappe.enqueue(tasks.whoami, job_id="held")
            assert time.monotonic() - began < 10
            assert frappe.get_job("held").status == "cancelled"
            began, many = time.monotonic(), [f"held {number}" for number in range(300)]
            with pytest.raises(errors.BrokerUnavailable, match="its memory or its disk is full"):
                frappe.enqueue_many([{"method": tasks.whoami, "job_id": one} for one in many])
            assert time.monotonic() - began < 10
            assert {frappe.get_job(one).status for one in many} == {"cancelled"}

    def test_the_doctor_says_that_it_takes_no_messages(self, bench):
        began = time.monotonic()
        found = [*Checkup(parts_of(runtime.current())).findings()]
        assert time.monotonic() - began < 10 * slowness()
        error = one(found, "takes no messages, so no job can be sent")
        assert (error.level, "alarms" in error.cure) == ("error", True)
        assert one(found, "Workers and queues were not checked").level == "warning"
