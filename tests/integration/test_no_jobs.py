"""What comes in the place of a job: it is kept aside, and the worker goes on; on both brokers."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from uuid import uuid4

import pytest
import redis
from acme import tasks
from chaos.hostile import bomb, deep_table, with_table
from conftest import opened
from kombu import Connection

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.errors import ArgumentError
from frappe_jobs.message import HEADER, TASK, VERSION, Sending
from frappe_jobs.testing import wait_until

JSON = "application/json"


@pytest.fixture(params=["redis", "rabbitmq"], scope="module")
def place(request, make_bench):
    """A bench on either broker with a worker on its default queue."""
    config = {}
    if request.param == "rabbitmq":
        config["celery_broker_url"] = request.getfixturevalue("amqp_url")
    bench = make_bench(**config)
    with bench.worker("--queue", "default") as worker:
        yield bench, worker


@pytest.fixture
def worker(place):
    """That worker, its bench in use; it must have outlived the test."""
    bench, worker = place
    with opened(bench):
        yield worker
        assert frappe.enqueue(tasks.ping).wait(60) == "pong"
        assert worker.process.poll() is None, worker.log


@pytest.fixture
def kept(worker):
    """Waits until so many more messages are kept aside; gives what was wrong, newest first."""
    ledger = runtime.current().ledger
    before = ledger.count_kept_aside()

    def wait(count):
        wait_until(lambda: ledger.count_kept_aside() - before >= count, 30)
        return [one["error"] for one in ledger.kept_aside()[:count]]

    return wait


def job(arguments=None, embed=None, /, **headers):
    """A job of ours by its form, that would leave a mark; with other headers."""
    message_id = str(uuid4())
    ours = {
        "version": VERSION, "id": message_id, "job_id": message_id, "site": "site1", "user": "otto",
        "method": "acme.tasks.echo", "queue": "default", "name": "acme.tasks.echo", "timeout": 30,
        "enqueued_at": 1.5,
    }  # fmt: skip
    body = json.dumps([[arguments or {"tag": "hostile"}], {}, embed or {}])
    known = {"lang": "py", "task": TASK, "id": message_id, HEADER: ours, "retries": 0}
    return body, known | headers


def send(*messages):
    here = runtime.current()
    with Connection(here.in_force.broker_url) as connection:
        producer = connection.Producer()
        for body, headers in messages:
            producer.publish(
                body, routing_key=here.broker.queue_name("default"), headers=headers,
                content_type=JSON, content_encoding="utf-8",
            )  # fmt: skip


ODD = (
    {"eta": ""}, {"eta": 0}, {"eta": {}}, {"expires": ""}, {"expires": {}}, {"stamps": 5},
    {"id": "another"}, {"chain": [{"task": TASK}]},
)  # fmt: skip


def test_a_header_of_another_type_ends_no_worker(place, worker, kept):
    bench, _ = place
    send(*(job(**headers) for headers in ODD))
    assert len(kept(len(ODD))) == len(ODD)
    assert bench.marks("echo") == []


def test_nor_does_an_argument_that_is_nested_deep(worker, kept):
    deep = json.loads("[" * 600 + "]" * 600)
    body, headers = job()
    send((f'[[{{"tag": {json.dumps(deep)}}}], {{}}, {{}}]', headers))
    (said,) = kept(1)
    assert "nested over" in said or "RecursionError" in said


def test_what_hangs_on_a_job_by_celerys_means_is_refused(place, worker, kept):
    bench, _ = place
    signature = {"task": "celery.map", "args": [TASK, [1]], "kwargs": {}, "options": {}}
    embeds = [{"chain": [signature]}, {"errbacks": [5]}, {"callbacks": ["x"]}, {"chord": {"a": 1}}]
    send(*(job(None, embed) for embed in embeds))
    assert all("asks Celery for more than the job" in said for said in kept(len(embeds)))
    assert bench.marks("echo") == []


def test_a_task_whose_failing_fails_is_let_go_of(worker):
    """Its errback is none: the worker's parent raises where it would note the failure."""
    body = json.dumps([[1, "x"], {}, {"errbacks": [5], "chain": [5]}])
    headers = {"task": tasks.celery_add.name, "id": str(uuid4()), "timelimit": [None, None]}
    send((body, headers))
    wait_until(lambda: headers["id"] in worker.log, 20)
    assert frappe.enqueue(tasks.ping).wait(60) == "pong"  # of one process, which is free again


def test_celerys_own_tasks_are_for_nobody_here(place, worker, kept):
    bench, _ = place
    app = runtime.current().app
    queue = f"{bench.id}:default"
    app.send_task("celery.map", args=[{"task": tasks.celery_add.name}, [[1, 2]]], queue=queue)
    app.send_task("celery.backend_cleanup", queue=queue)
    assert all("a task of Celery's own" in said for said in kept(2))
    assert app.tasks[tasks.celery_add.name].apply_async((1, 2), queue=queue).get(timeout=30) == 3


def test_a_message_with_another_jobs_id_is_not_run_in_its_place(place, worker, kept):
    bench, _ = place
    theirs = frappe.enqueue(tasks.ping, "long")
    body, headers = job()
    stolen = {"id": theirs.message_id, "job_id": theirs.id}
    send((body, headers | {"id": theirs.message_id, HEADER: headers[HEADER] | stolen}))
    (said,) = kept(1)
    assert "bears the id of another job" in said
    assert (bench.marks("echo"), theirs.get_status()) == ([], "queued")


def test_a_bad_message_is_not_retried(place, worker):
    here = runtime.current()
    message = frappe.enqueue(tasks.echo, "long", retry=frappe.Retry(3, 60))._record.message
    bad = {"tag": {"__frappe_jobs__": "os", "value": 1}}
    message = replace(message.again(at=1.0), queue="default", arguments=bad)
    here.ledger.record([Sending(message)])
    here.broker.send_again([message])
    wait_until(lambda: here.ledger.read(message.id).status == "failed", 30)
    assert "BadMessage" in here.ledger.read(message.id).reason


def test_a_jobs_texts_forge_no_line_of_the_log(place, worker):
    forged = "x\n[2026-11-28 00:00:00: ERROR/MainProcess] forged\x1b[2J\u2028"
    failing = frappe.enqueue(tasks.fail, text=forged, job_name=forged)
    wait_until(lambda: failing.get_status() == "failed", 30)
    wait_until(lambda: "raised unexpected" in worker.log.rpartition("forged")[0], 30)
    lines = [line for line in worker.lines if "forged" in line]
    assert lines and not any(line.startswith("[2026-11-28 00:00:00") for line in lines)
    assert not any(mark in line for line in lines for mark in ("\x1b", "\u2028"))
    assert "x\\n[2026-11-28 00:00:00: ERROR/MainProcess] forged\\x1b[2J\\u2028" in worker.log


@pytest.mark.parametrize("place", ["redis"], indirect=True)
class TestRedis:
    RAW = (
        b"{", b"null", b"[]", b"5", b"\xff", b'{"properties": null}',
        b'{"__type__": [], "__value__": 1}',
    )  # fmt: skip

    @pytest.fixture
    def server(self, place):
        bench, _ = place
        with redis.Redis.from_url(bench.redis_url) as server:
            yield server

    def test_an_item_that_is_no_message_is_kept_as_it_came(self, place, worker, kept, server):
        bench, _ = place
        for item in self.RAW:
            server.lpush(f"{bench.id}:default", item)
        assert len(kept(len(self.RAW))) == len(self.RAW)
        bodies = [one["body"] for one in runtime.current().ledger.kept_aside()]
        assert bodies[: len(self.RAW)] == [repr(item) for item in reversed(self.RAW)]

    def test_nor_is_one_whose_parts_are_of_wrong_types(self, place, worker, kept, server):
        bench, _ = place
        body, headers = job()
        good = {
            "body": base64.b64encode(body.encode()).decode(), "headers": headers,
            "content-type": JSON, "content-encoding": "utf-8",
            "properties": {
                "delivery_tag": "x", "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": f"{bench.id}:default"},
            },
        }  # fmt: skip
        wrong = [
            good | {"headers": 5}, good | {"body": "=a"}, good | {"body": [1]},
            *(
                good | {"properties": good["properties"] | {name: value}}
                for name, value in (
                    ("delivery_tag", 5), ("delivery_info", "x"), ("priority", "x"),
                    ("body_encoding", "rot13"),
                )
            ),
        ]  # fmt: skip
        for envelope in wrong:
            server.lpush(f"{bench.id}:default", json.dumps(envelope))
        assert len(kept(len(wrong))) == len(wrong)
        assert bench.marks("echo") == []

    def test_a_tag_that_is_in_use_takes_nobodys_place(self, place, worker, server):
        """What a worker holds lies under the message's tag: a forged one would write over it."""
        bench, _ = place
        here = runtime.current()
        unacked = f"{here.settings.prefix}unacked"
        slow = frappe.enqueue(tasks.run, number=1, seconds=2)
        wait_until(lambda: slow.get_status() == "started", 20)
        ((tag, held),) = server.hgetall(unacked).items()
        forged = json.loads(held)[0] | {"headers": {"task": "x", "id": "1"}}
        forged["properties"]["delivery_tag"] = tag.decode()
        server.lpush(f"{bench.id}:default", json.dumps(forged))
        assert slow.wait(30) == 1
        assert frappe.enqueue(tasks.ping).wait(30) == "pong"
        wait_until(lambda: server.hgetall(unacked) == {}, 20)

    def test_what_lies_among_held_messages_is_in_nobodys_way(self, place, worker, kept, server):
        """A worker looks there for what dead ones left, and stopped at the first that is none."""
        here = runtime.current()
        prefix = here.settings.prefix
        server.hset(f"{prefix}unacked", "a", "{")
        server.zadd(f"{prefix}unacked_index", {"a": 1})
        (said,) = kept(1)
        assert "is no message" in said
        wait_until(lambda: not server.hexists(f"{prefix}unacked", "a"), 10)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_without_processes_outlives_them_too(bench, pool):
    with bench.worker("--queue", "default", "--pool", pool) as worker, frappe.site("site1"):
        with redis.Redis.from_url(bench.redis_url) as server:
            server.lpush(f"{bench.id}:default", b"null", b"{")
        send(job(eta=""), job(stamps=5))
        wait_until(lambda: runtime.current().ledger.count_kept_aside() == 4, 30)
        assert frappe.enqueue(tasks.ping).wait(30) == "pong"
        assert worker.process.poll() is None


def test_while_the_ledger_is_away_what_is_no_job_stays_the_brokers(make_bench, server, amqp_url):
    bench = make_bench(redis_queue=embedded.running(server), celery_broker_url=amqp_url)
    with bench.worker("--queue", "default") as worker, opened(bench):
        embedded.stop(server)
        send(job(eta=""), job(stamps=5), job({"tag": "x"}, {"chain": [5]}))
        wait_until(lambda: "cannot be kept aside yet" in worker.log, 30)
        embedded.start(server)
        ledger = runtime.current().ledger
        wait_until(lambda: ledger.count_kept_aside() == 3, 60)
        assert frappe.enqueue(tasks.ping).wait(60) == "pong"
        assert worker.process.poll() is None


@pytest.mark.parametrize("place", ["rabbitmq"], indirect=True)
class TestRabbitMQ:
    def test_properties_that_cannot_be_read_end_nothing(self, place, worker, kept, unreadable):
        bench, _ = place
        with Connection(bench.amqp_url) as connection:
            for message in unreadable:
                connection.default_channel.basic_publish(message, routing_key=f"{bench.id}:default")
        assert set(kept(len(unreadable))) == {"The message has properties that cannot be read."}

    @pytest.fixture
    def unreadable(self):
        """A time in the year 292,277,026,596, a thousand tables in each other, no UTF-8."""
        tables = b"\x01aT\x7f" + b"\xff" * 7, deep_table(2_000)
        return [with_table(one, JSON.encode()) for one in tables] + [with_table(b"", b"\xff\xfe")]


def test_a_small_message_that_unpacks_to_a_large_one_is_kept_packed(worker, kept):
    body, headers = job()
    here = runtime.current()
    with Connection(here.in_force.broker_url) as connection:
        connection.Producer().publish(
            bomb(), routing_key=here.broker.queue_name("default"), content_type=JSON,
            content_encoding="utf-8", headers=headers | {"compression": "zlib"},
        )  # fmt: skip
    (said,) = kept(1)
    assert re.search("over|is of", said)


def test_a_task_whose_serializer_its_workers_refuse_is_an_error_at_the_call(worker):
    task = runtime.current().app.task(name=f"t{uuid4()}", serializer="pickle")(tasks.ping)
    for queue in ("default", None):
        options = {"queue": queue} if queue else {}
        with pytest.raises(ArgumentError, match="sent as 'pickle'.*'accept_content' is json"):
            frappe.enqueue(task, **options)


class TestRevoked:
    """By Celery's means, while it waits: Flower's button, ``celery control revoke``."""

    @pytest.fixture
    def busy(self, worker):
        """Its only process has something to do."""
        slow = frappe.enqueue(tasks.run, number=1, seconds=3)
        wait_until(lambda: slow.get_status() == "started", 30)
        return slow

    def test_it_is_cancelled_in_its_record_before_any_worker_gets_it(self, place, busy):
        bench, _ = place
        job = frappe.enqueue(tasks.echo, tag="revoked")
        runtime.current().app.control.revoke(job.message_id)
        wait_until(lambda: job.get_status() == "cancelled", 30)
        assert job.reason == "revoked by Celery"
        assert busy.wait(30) == 1
        assert frappe.enqueue(tasks.ping).wait(30) == "pong"
        assert bench.marks("echo") == []
        assert runtime.current().ledger.records("site1")[-1].status == "finished"

    def test_by_a_stamp_it_is_cancelled_by_the_worker_that_gets_it(self, place, busy):
        bench, _ = place
        here = runtime.current()
        message = frappe.enqueue(tasks.echo, "long", tag="stamped")._record.message
        message = replace(message.again(at=1.0), queue="default")
        here.ledger.record([Sending(message)])
        here.app.tasks[TASK].apply_async(
            (message.arguments,),
            stamped_headers=["who"],
            who="otto",
            **here.broker.options(message),
        )
        here.app.control.revoke_by_stamped_headers({"who": "otto"})
        assert busy.wait(30) == 1
        wait_until(lambda: here.ledger.read(message.id).status == "cancelled", 30)
        assert bench.marks("echo") == []

    def test_one_that_runs_goes_on(self, worker, busy):
        runtime.current().app.control.revoke(busy.message_id)
        assert busy.wait(30) == 1
