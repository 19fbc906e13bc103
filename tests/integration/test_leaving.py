"""A bench that leaves its servers: nothing of it stays there, and nothing of others' goes."""

from __future__ import annotations

import os
import signal

import pytest
import redis
from acme import tasks
from kombu.transport.redis import Channel

import frappe_jobs as frappe
from frappe_jobs import embedded, errors
from frappe_jobs.deploy import leaving
from frappe_jobs.ledger.leftovers import Leftovers
from frappe_jobs.testing import wait_until

#: Where kombu 5.7 notes until when workers' binding tables are to be kept.
TABLES = "_kombu.binding_deadlines"


def keys(url: str) -> set[str]:
    with redis.Redis.from_url(url, decode_responses=True, encoding_errors="replace") as client:
        return {*client.scan_iter()}


def of_bench(bench) -> set[str]:
    here = bench.use()
    return {key for key in keys(here.in_force.redis_url) if here.settings.bench_id in key}


def test_nothing_of_it_stays(on_each_broker):
    bench = on_each_broker
    here = bench.use()
    bench.run("migrate", "--site", "all")
    with frappe.site("site1"):
        for method in (tasks.fail, tasks.ping):
            frappe.enqueue(method, job_id=method.__name__)
        assert bench.run("worker", "--burst").returncode == 0
        frappe.enqueue(tasks.ping, at_front=True)
    with bench.worker("--queue", "short") as worker:
        os.killpg(worker.process.pid, signal.SIGKILL)
    assert of_bench(bench)
    with redis.Redis.from_url(here.in_force.redis_url) as client:  # as of a worker long gone
        client.zadd(TABLES, {here.settings.bench_id: 1})
    leaving.forget(here.in_force, here.broker)
    assert of_bench(bench) == set()
    if not here.in_force.is_amqp and hasattr(Channel, "keyprefix_binding_deadlines"):
        with redis.Redis.from_url(here.in_force.redis_url) as client:
            assert client.zscore(TABLES, here.settings.bench_id) is None
    with here.app.connection_for_read() as connection:
        for queue in here.app.amqp.queues.values():
            if here.in_force.is_amqp:
                with pytest.raises(connection.channel_errors):
                    queue(connection.channel()).queue_declare(passive=True)
    leaving.forget(here.in_force, here.broker)  # and once more, as after a cut


@pytest.fixture
def urls(tmp_path):
    """Of three servers."""
    folders = [tmp_path / name for name in ("jobs", "schedule", "results")]
    for folder in folders:
        folder.mkdir()
    yield [embedded.start(folder) for folder in folders]
    for folder in folders:
        embedded.stop(folder)


def test_nothing_of_it_stays_on_any_of_its_servers(make_bench, urls):
    queue, schedule, results = urls
    bench = make_bench(redis_queue=queue, redbeat_redis_url=schedule, celery_result_backend=results)
    here = bench.use()
    bench.run("migrate", "--site", "all")
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping)
    assert bench.run("worker", "--burst").returncode == 0

    def left() -> list[int]:
        return [sum(here.settings.bench_id in key for key in keys(url)) for url in urls]

    assert all(left())
    leaving.forget(here.in_force, here.broker)
    assert left() == [0, 0, 0]


def test_who_would_write_again_is_named(bench):
    here = bench.use()
    assert leaving.who_is_there(here.broker, here.timetable) == []
    with bench.worker("--queue", "short"), bench.process("schedule"):
        leader = wait_until(here.timetable.leader, 20)
        worker, scheduler = leaving.who_is_there(here.broker, here.timetable)
    assert worker.startswith("short.") and scheduler == leader


def test_a_prefix_means_itself_alone(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.mset({"of*[a]?:one": 1, "of*[a]?:two": 1, "ofx-a-y:one": 1})
        assert Leftovers(redis_url, "of*[a]?:").delete() == 2
        assert client.delete("ofx-a-y:one") == 1


def test_a_broker_that_is_away_is_said(bench):
    here = bench.use()
    with pytest.raises(errors.BrokerUnavailable):
        Leftovers("redis://127.0.0.1:1", here.settings.prefix).delete()
