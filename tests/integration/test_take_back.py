"""A worker on Redis keeps what it holds, and puts back what dead ones held."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest
from acme import tasks
from celery import Celery
from kombu.asynchronous.timer import Timer

import frappe_jobs as frappe
from frappe_jobs import embedded
from frappe_jobs.celery import lease
from frappe_jobs.celery.app import extend_app


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch):
    """A thread that renews leases would outlive the test."""
    monkeypatch.setattr(lease, "_keeper", threading.current_thread())


@contextmanager
def worker(app, queue):
    """What a step sees of a worker: on a real connection, with one message of our queue taken."""
    with app.connection_for_read() as connection:
        taken = []
        task_consumer = app.amqp.TaskConsumer(
            connection.default_channel, queues=[app.amqp.queues[queue]],
            callbacks=[lambda body, message: taken.append(message)],
        )  # fmt: skip
        task_consumer.qos(prefetch_count=1, apply_global=False)
        with task_consumer:
            consumer = SimpleNamespace(
                app=app, hostname="worker@here", timer=Timer(), task_consumer=task_consumer,
                connection_errors=connection.connection_errors,
            )  # fmt: skip
            if queue.endswith(":default"):
                connection.drain_events(timeout=5)
            lease.LeaseKeeper(consumer).start(consumer)
            yield consumer, [event.entry for event in consumer.timer.queue]


def test_what_it_holds_stays_its_own_and_what_a_dead_worker_held_goes_back(bench):
    here = bench.use()
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping)
        dead = frappe.enqueue(tasks.ping)
    server, index = here.ledger.redis, f"{here.settings.prefix}unacked_index"
    with worker(here.app, f"{bench.id}:default") as (consumer, (look,)):
        (tag,) = consumer.task_consumer.channel.qos._delivered
        with here.app.connection_for_read() as other:
            message = other.SimpleQueue(here.app.amqp.queues[f"{bench.id}:default"]).get(timeout=5)
            assert here.broker.depth("default") == 0
            long_ago = time.time() - 2 * here.settings.lease
            server.zadd(index, {tag: long_ago, message.delivery_tag: long_ago})
            look()
            assert server.zscore(index, tag) > long_ago + 60
            assert here.broker.depth("default") == 1
            assert here.broker.discard([here.ledger.read(dead.message_id).message])
            other.default_channel.qos._delivered.clear()


def test_a_teams_own_messages_are_left_to_the_team(make_bench):
    bench = make_bench()
    app = Celery(f"team-{uuid4()}", broker=bench.redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"unacked_key": f"team-{bench.id}"}
    extend_app(app, bench.sites)
    with worker(app, f"{bench.id}-theirs") as (_, timers):
        assert timers == []


def test_rabbitmq_sees_to_it_by_itself(make_bench, amqp_url):
    bench = make_bench(celery_broker_url=amqp_url)
    here = bench.use()
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping)
    with worker(here.app, f"{bench.id}:default") as (_, timers):
        assert timers == []


def test_while_redis_is_away_it_looks_in_vain(make_bench, server):
    bench = make_bench(redis_queue=embedded.running(server))
    here = bench.use()
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping)
    with worker(here.app, f"{bench.id}:default") as (_, (look,)):
        embedded.stop(server)
        look()
        embedded.start(server)
