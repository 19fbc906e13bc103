"""The worker process: order of queues, at front, what it is told, what it must survive."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
from contextlib import contextmanager
from uuid import uuid4

import pytest
from acme import tasks
from kombu import Connection

import frappe_jobs as frappe
from frappe_jobs import embedded, errors, runtime
from frappe_jobs.celery.kept_aside import BODY_LIMIT
from frappe_jobs.message import HEADER, TASK
from frappe_jobs.testing import wait_until


@contextmanager
def held(bench, *arguments):
    """A worker whose one process is held by a job until the block is left."""
    until = bench.path / f"until-{uuid4()}"
    with bench.worker(*arguments) as worker, frappe.site("site1"):
        job = frappe.enqueue(tasks.hold, until=str(until))
        wait_until(lambda: job.get_status() == "started", 10)
        yield worker, until
        until.touch()


def names_run(bench, count):
    """In what order the sleep jobs began."""
    wait_until(lambda: len(bench.marks("sleep")) >= count, 20)
    return [mark["name"] for mark in bench.marks("sleep")]


class TestOrder:
    def test_no_ordinary_job_starts_between_the_send_and_the_at_front_job(self, bench):
        with held(bench, "--queue", "default") as (_, until):
            for number in range(20):
                frappe.enqueue(tasks.sleep, seconds=0, name=str(number))
            for name in ("first", "second"):
                frappe.enqueue(tasks.sleep, seconds=0, name=name, at_front=True)
            until.touch()
            assert names_run(bench, 22) == ["first", "second", *map(str, range(20))]

    def test_on_redis_it_goes_before_the_jobs_of_the_workers_other_queues(self, bench):
        with held(bench, "--queue", "short,default") as (_, until):
            frappe.enqueue(tasks.sleep, "short", seconds=0, name="short")
            frappe.enqueue(tasks.sleep, "default", seconds=0, name="front", at_front=True)
            until.touch()
            assert names_run(bench, 2) == ["front", "short"]

    def test_earlier_queues_of_the_command_go_first(self, bench):
        with held(bench, "--queue", "default,long,short") as (_, until):
            for queue in ("short", "long", "default", "short", "long", "default"):
                frappe.enqueue(tasks.sleep, queue, seconds=0, name=queue)
            until.touch()
            expected = ["default", "default", "long", "long", "short", "short"]
            assert names_run(bench, 6) == expected

    def test_a_worker_leaves_other_queues_alone(self, bench):
        with bench.worker("--queue", "short"), frappe.site("site1"):
            other = frappe.enqueue(tasks.ping, "long")
            assert frappe.enqueue(tasks.ping, "short").wait(10) == "pong"
            assert other.get_status() == "queued"

    def test_one_job_at_a_time_unless_concurrency_says_more(self, bench):
        with held(bench, "--queue", "default"):
            job = frappe.enqueue(tasks.ping)
            with pytest.raises(frappe.JobTimeout):
                job.wait(0.5)
        with held(bench, "--queue", "default", "--concurrency", "2"):
            assert frappe.enqueue(tasks.ping).wait(10) == "pong"

    def test_two_benches_on_one_broker_do_not_see_each_others_jobs(self, bench, make_bench):
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.ping, job_id="mine")
        other = make_bench()
        other.use()
        with other.worker(), frappe.site("site1"):
            assert frappe.enqueue(tasks.ping).wait(10) == "pong"
            assert frappe.get_job("mine") is None
        assert job.get_status() == "queued"


class TestStopping:
    @pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
    def test_told_to_stop_it_finishes_what_runs_and_exits_0(self, bench, to_group):
        with bench.worker("--queue", "default") as worker, frappe.site("site1"):
            job = frappe.enqueue(tasks.sleep, seconds=1.0, name="finished all the same")
            wait_until(lambda: job.get_status() == "started")
            waiting = frappe.enqueue(tasks.ping)
            if to_group:  # as honcho and systemd do
                os.killpg(worker.process.pid, signal.SIGTERM)
            assert worker.stop() == 0
            assert job.wait(0) == "finished all the same"
            assert waiting.get_status() == "queued"

    def test_quiet_it_says_only_that_it_is_ready(self, bench):
        with bench.worker("--quiet") as worker, frappe.site("site1"):
            frappe.enqueue(tasks.ping).wait(10)
        lines = [line for line in worker.lines if "INFO" in line or "succeeded" in line]
        assert lines == []

    @pytest.mark.parametrize("pool", ["threads", "solo"])
    def test_a_pool_that_cannot_enforce_timeouts_says_so(self, bench, pool):
        with bench.worker("--pool", pool) as worker, frappe.site("site1"):
            assert "cannot enforce timeouts" in worker.log
            assert frappe.enqueue(tasks.ping).wait(10) == "pong"

    @pytest.mark.parametrize("pool", ["threads", "solo"])
    def test_such_a_pool_finishes_its_job_when_it_is_told_to_stop(self, bench, pool):
        until = bench.path / "until"
        with bench.worker("--pool", pool) as worker, frappe.site("site1"):
            job = frappe.enqueue(tasks.hold, until=str(until))
            wait_until(lambda: job.get_status() == "started", 20)
            worker.process.send_signal(signal.SIGTERM)
            until.touch()
            assert worker.stop() == 0, worker.log
            assert job.get_status() == "finished"

    @pytest.mark.parametrize("pool", ["gevent", "eventlet"])
    def test_a_pool_that_could_not_keep_leases_is_refused_by_name(self, bench, pool):
        refused = bench.run("worker", "--pool", pool)
        assert refused.returncode == 2
        assert f"a {pool} pool cannot renew the lease" in refused.stderr


PICKLE = "application/x-python-serialize"


class Exploit:
    """Whoever unpickles this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def task(header, arguments=None, name=TASK):
    """A Celery message of protocol 2, as any client could send it."""
    body = json.dumps([[arguments if arguments is not None else {}], {}, {}])
    message_id = str(uuid4())
    headers = {"task": name, "id": message_id, "lang": "py", "root_id": message_id}
    if isinstance(header, dict):
        header = {
            "version": 1, "id": message_id, "job_id": message_id, "site": "site1",
            "user": "Administrator", "queue": "default", "name": "x", "timeout": 9,
            "enqueued_at": 1.0,
        } | header  # fmt: skip
    if header is not None:
        headers[HEADER] = header
    return {"body": body, "headers": headers, "content_type": "application/json"}


def with_headers(**headers):
    """A message whose job is sound, but for what is wrong with Celery's own headers."""
    message = task({"method": "acme.tasks.forbidden"})
    message["headers"] |= headers
    return message


class TestHostileMessages:
    def test_none_is_executed_each_is_logged_and_the_worker_goes_on(self, bench, tmp_path):
        touched = tmp_path / "touched"
        command = {"command": f"touch {touched}"}
        pickled = pickle.dumps([[Exploit(touched)], {}, {}])
        sent = [
            {"body": "{half", "headers": {}, "content_type": "application/json"},
            {"body": "no task at all", "headers": {}, "content_type": "text/plain"},
            {"body": '["a list"]', "headers": {}, "content_type": "application/json"},
            task({}) | {"body": "{half"},
            task({}) | {"body": "{half" + "x" * 50_000},
            task({}) | {"body": base64.b64encode(pickled), "content_type": PICKLE},
            task({}) | {"body": pickled, "content_type": PICKLE, "content_encoding": "binary"},
            task({}) | {"body": pickled, "content_type": "application/data",
                        "content_encoding": "binary"},
            task({}) | {"body": "[[], {}]"},
            task({}) | {"body": '{"args": 1}'},
            with_headers(timelimit="soon"),
            with_headers(timelimit=[-1, "x"]),
            with_headers(retries="many"),
            with_headers(eta="some day"),
            with_headers(expires=[1]),
            with_headers(id=None),
            with_headers(id=5),
            with_headers(task=["x"]),
            with_headers(shadow={"a": 1}),
            with_headers(root_id=[1], parent_id={}, group={}, origin=5),
            task({}, name="os.system"),
            task({}, name="celery.backend_cleanup.nope"),
            task(None),
            task("a text"),
            task({"version": 0, "method": "acme.tasks.ping"}),
            task({"method": 5}),
            task({"method": "acme.tasks.ping", "surprise": 1}),
            task({"method": "acme.tasks.ping"}, arguments=[1]),
            task({"method": "os.system"}, command),
            task({"method": "acme.tasks.system"}, command),
            task({"method": "acme.tasks.os.system"}, command),
            task({"method": "acme.tasks.ping.__globals__.get"}, {}),
            task({"method": "acme.tasks.add", "site": "../site1"}, {"x": 1}),
            task({"method": "acme.tasks.add", "site": "nowhere"}, {"x": 1}),
            task({"method": "acme.tasks.add"}, {"x": {"__frappe_jobs__": "os", "value": 1}}),
        ]  # fmt: skip
        with bench.worker("--queue", "default") as worker:
            with Connection(bench.redis_url) as connection:
                producer = connection.Producer()
                for message in sent:
                    message = dict(message)
                    producer.publish(
                        message.pop("body"), routing_key=f"{bench.id}:default", **message
                    )
            with frappe.site("site1"):
                assert frappe.enqueue(tasks.ping).wait(20) == "pong"
            assert not touched.exists()
            assert bench.marks("add") == []
            assert runtime.current().broker.depth("default") == 0
            ledger = runtime.current().ledger
            aside = len(ledger.kept_aside())
            assert max(len(one.get("body", "")) for one in ledger.kept_aside()) == BODY_LIMIT
            records = [ledger.records(site) for site in ("site1", "nowhere", "../site1")]
            failed = [record for found in records for record in found if record.status == "failed"]
            assert aside + len(failed) == len(sent), worker.log
            for record in failed:
                assert record.reason.partition(":")[0] in (
                    "MethodNotAllowed", "MethodNotFound", "SiteNotFound", "BadMessage",
                )  # fmt: skip


class TestBrokerAway:
    def test_a_worker_waits_for_it_and_finds_it_again(self, make_bench, server):
        bench = make_bench(redis_queue=embedded.running(server))
        bench.use()
        embedded.stop(server)
        with bench.process("worker", "--queue", "default") as worker:
            wait_until(lambda: "is away or refuses" in worker.log, 20)
            with (
                frappe.site("site1"),
                pytest.raises(errors.BrokerUnavailable, match="out of reach"),
            ):
                frappe.enqueue(tasks.ping)
            embedded.start(server)
            worker.wait_ready()
            with frappe.site("site1"):
                assert frappe.enqueue(tasks.ping).wait(10) == "pong"
                embedded.stop(server)
                embedded.start(server)
                assert frappe.enqueue(tasks.ping).wait(20) == "pong"
            assert worker.stop() == 0


def test_a_worker_is_as_nice_as_the_settings_say(make_bench):
    bench = make_bench(background_process_niceness=3)
    with bench.worker("--queue", "short") as worker:
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, worker.process.pid) == ours + 3
