"""The road through a real RabbitMQ: the same jobs, with the records in Redis."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from acme import tasks
from amqp.exceptions import MessageNacked
from celery.result import AsyncResult
from kombu import Connection, Queue
from ports import free_port
from proxy import Proxy

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.brokers.confirms import confirmed_together
from frappe_jobs.testing import wait_until


@pytest.fixture(scope="module")
def rabbit(make_bench, amqp_url):
    """A bench on RabbitMQ, with a worker of two processes on all queues."""
    bench = make_bench(celery_broker_url=amqp_url, frappe_jobs_timeout_grace=1)
    with bench.worker("--concurrency", "2") as worker:
        yield bench, worker


@pytest.fixture
def site1(rabbit):
    rabbit[0].use()
    with frappe.site("site1", user="grete"):
        yield rabbit[0]


@pytest.fixture
def idle(make_bench, amqp_url):
    bench = make_bench(celery_broker_url=amqp_url)
    bench.use()
    with frappe.site("site1"):
        yield bench


def test_a_caller_is_told_soon_that_nothing_listens_there(make_bench):
    """kombu by itself tries to connect for as long as an accepted connection might be silent."""
    bench = make_bench(celery_broker_url=f"amqp://127.0.0.1:{free_port()}//")
    bench.amqp_url = None  # there is nothing to remove
    bench.use()
    with frappe.site("site1"):
        for send in (frappe.enqueue, lambda method: frappe.enqueue_many([{"method": method}] * 3)):
            began = time.monotonic()
            with pytest.raises(errors.BrokerUnavailable, match="refused"):
                send(tasks.ping)
            assert time.monotonic() - began < 4  # as a rule 1.3; 6.6 before


@pytest.mark.parametrize("queue", ["short", "default", "long"])
def test_a_job_runs_and_its_result_comes_back(site1, queue):
    job = frappe.enqueue(tasks.whoami, queue)
    assert job.wait(10) == ["site1", "grete", job.id, queue, "acme.tasks.whoami", 1]
    assert AsyncResult(job.message_id, app=runtime.current().app).get(timeout=5) == job.result


def test_many_run_in_order(site1):
    jobs = frappe.enqueue_many({"method": tasks.add, "x": number} for number in range(50))
    assert [job.wait(20) for job in jobs] == list(range(50))


def test_a_failure_a_timeout_and_a_kill_are_told(site1):
    failing = frappe.enqueue(tasks.fail)
    slow = frappe.enqueue(tasks.sleep, timeout=1, seconds=60)
    stubborn = frappe.enqueue(tasks.sleep_on, timeout=1, seconds=60)
    for job, reason in (
        (failing, "ValueError: on purpose"),
        (slow, "timed out after 1 s"),
        (stubborn, "timed out after 1 s and was killed"),
    ):
        with pytest.raises(frappe.JobFailed):
            job.wait(15)
        assert job.reason == reason
    assert [frappe.enqueue(tasks.ping).wait(10) for _ in range(4)] == ["pong"] * 4


def test_a_retry_waits_and_runs(site1):
    assert frappe.enqueue(tasks.succeed_at_last, attempts=2).wait(20) == 2


def test_no_ordinary_job_starts_between_the_send_and_the_at_front_job(idle):
    until = idle.path / f"until-{uuid4()}"
    with idle.worker("--queue", "default"):
        held = frappe.enqueue(tasks.hold, until=str(until))
        wait_until(lambda: held.get_status() == "started", 10)
        for name in ("a", "b", "c"):
            frappe.enqueue(tasks.sleep, seconds=0, name=name)
        for name in ("front 1", "front 2"):
            frappe.enqueue(tasks.sleep, seconds=0, name=name, at_front=True)
        until.touch()
        wait_until(lambda: len(idle.marks("sleep")) == 5, 20)
    names = [mark["name"] for mark in idle.marks("sleep")]
    assert names == ["front 1", "front 2", "a", "b", "c"]


def test_a_cancelled_job_never_runs_though_its_message_stays(idle):
    job = frappe.enqueue(tasks.echo, tag="cancelled")
    assert job.cancel() is True
    with idle.worker("--queue", "default"):
        assert frappe.enqueue(tasks.ping).wait(10) == "pong"
    assert idle.marks("echo") == []
    assert runtime.current().broker.depth("default") == 0


def test_damaged_messages_are_kept_aside_and_the_worker_goes_on(rabbit, site1, amqp_url):
    bench, worker = rabbit
    ledger = runtime.current().ledger
    before = len(ledger.kept_aside())
    with Connection(amqp_url) as connection:
        producer = connection.Producer()
        for body, headers in (("{half", {}), ("[]", {"task": "os.system", "id": "1"})):
            producer.publish(
                body, routing_key=f"{bench.id}:default", headers=headers,
                content_type="application/json", content_encoding="utf-8",
            )  # fmt: skip
    wait_until(lambda: len(ledger.kept_aside()) == before + 2, 10)
    assert frappe.enqueue(tasks.ping).wait(10) == "pong"
    assert worker.process.poll() is None


def test_a_broker_that_is_down_is_one_line_and_69(make_bench):
    bench = make_bench(celery_broker_url="amqp://guest:s3cret@127.0.0.1:1//")
    done = bench.run("--site", "site1", "enqueue", "acme.tasks.ping")
    assert (done.returncode, done.stderr.count("\n")) == (69, 1)
    assert "amqp://guest:***@127.0.0.1:1//" in done.stderr
    assert "s3cret" not in done.stderr


def test_of_many_a_queue_that_was_declared_otherwise_stops_the_rest_and_what_was_sent_is_told(
    idle, amqp_url
):
    with Connection(amqp_url) as connection:
        Queue(f"{idle.id}:long", channel=connection.default_channel).declare()
    items = [
        {"method": tasks.ping, "queue": queue, "job_id": queue}
        for queue in ("default", "long", "short")
    ]
    with pytest.raises(errors.NotSupportedByBroker) as caught:
        frappe.enqueue_many(items)
    assert [job.id for job in caught.value.details["sent"]] == ["default"]
    jobs = [frappe.get_job(item["job_id"]) for item in items]
    assert [job.status for job in jobs] == ["queued", "cancelled", "cancelled"]
    assert jobs[1].reason == "never sent: the broker refused the queue"
    assert runtime.current().broker.depth("short") == 0


def test_of_messages_sent_together_it_is_known_which_were_taken_and_that_one_was_refused(amqp_url):
    name = f"test-{uuid4()}"
    arguments = {"x-max-length": 3, "x-overflow": "reject-publish"}
    with Connection(amqp_url, transport_options={"confirm_publish": True}) as connection:
        queue = Queue(name, channel=connection.default_channel, queue_arguments=arguments)
        queue.declare()
        try:
            with confirmed_together(connection) as confirms:
                producer = connection.Producer(confirms.channel)
                for number in range(5):
                    confirms.sends(str(number))
                    producer.publish("x", routing_key=name)
                with pytest.raises(MessageNacked):
                    confirms.wait(5)
                assert confirms.confirmed == ["0", "1", "2"]
                confirms.sends("never sent")
                with pytest.raises(TimeoutError):
                    confirms.wait(0.1)
            assert queue.queue_declare(passive=True).message_count == 3
        finally:
            queue.delete()


def test_of_many_what_is_not_confirmed_as_the_connection_breaks_is_sent_again(make_bench, amqp_url):
    with Proxy(amqp_url) as proxy:
        bench = make_bench(celery_broker_url=proxy.url)
        bench.amqp_url = amqp_url
        bench.use()
        with frappe.site("site1"):
            frappe.enqueue_many([{"method": tasks.ping}] * 2)
            once = [True]
            proxy.cut_off(lambda data: b"breaks" in data and bool(once) and once.pop())
            items = [{"method": tasks.echo, "value": n} for n in range(250)]
            items[150]["job_name"] = "breaks"
            jobs = frappe.enqueue_many(items)
            assert proxy.cut == 1
            assert {job.get_status() for job in jobs} == {"queued"}
            here = runtime.current()
            assert 252 <= here.broker.depth("default") <= 502  # some of them twice
            assert here.ledger.redis.zcard(here.ledger._key("unsent")) == 0
            with bench.worker("--burst") as worker:
                worker.process.wait(60)
            ran = [mark["kwargs"]["value"] for mark in bench.marks("echo")]
            assert sorted(ran) == [*range(250)]


def test_the_queues_command_counts_workers_and_messages(idle):
    frappe.enqueue(tasks.ping, "long")
    with idle.worker("--queue", "short"):
        lines = idle.run("queues").stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["short", "300", "1", "0"], ["default", "300", "0", "0"], ["long", "1500", "0", "1"],
    ]  # fmt: skip
