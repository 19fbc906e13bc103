"""Record and message in one round trip; the long way wherever somebody listens; many at once."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager

import pytest
import redis
from acme import tasks
from celery import Celery
from celery.signals import after_task_publish, before_task_publish
from redis_commands import commands

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.message import TASK, Sending


@pytest.fixture
def site1(bench):
    with frappe.site("site1"):
        yield bench


@pytest.fixture
def shared_site(shared):
    with frappe.site("site1"):
        yield shared


@contextmanager
def connected(signal):
    """Somebody listens to that signal; gives what it hears."""
    heard = []

    def listen(sender=None, headers=None, **_):
        heard.append((sender, headers["id"]))

    signal.connect(listen)
    try:
        yield heard
    finally:
        signal.disconnect(listen)


def pushed(bench, at_front=False):
    """The newest message in the default queue, as it lies on the broker."""
    name = f"{bench.id}:default" + ("" if at_front else "\x06\x166")
    return json.loads(redis.Redis.from_url(bench.redis_url).lindex(name, 0))


class TestOneRoundTrip:
    def test_an_enqueue_is_one_command(self, site1):
        frappe.enqueue(tasks.add, x=1)
        with commands(site1.redis_url, site1.id) as seen:
            frappe.enqueue(tasks.add, x=2, job_id="mine", deduplicate=True)
        assert seen == ["EVALSHA"]

    def test_the_pushed_message_is_what_celerys_producer_would_push(self, site1):
        for at_front in (False, True):
            fast = frappe.enqueue(tasks.add, x=1, job_name="Add", timeout=7, at_front=at_front)
            quick = pushed(site1, at_front)
            with connected(before_task_publish):
                slow = frappe.enqueue(tasks.add, x=1, job_name="Add", timeout=7, at_front=at_front)
            long = pushed(site1, at_front)
            assert (quick["headers"]["id"], long["headers"]["id"]) == (
                fast.message_id, slow.message_id,
            )  # fmt: skip
            for message in (quick, long):
                for part in ("id", "root_id"):
                    message["headers"].pop(part)
                for part in ("id", "job_id", "enqueued_at"):
                    message["headers"]["frappe_jobs"].pop(part)
                for part in ("correlation_id", "delivery_tag"):
                    message["properties"].pop(part)
                message["body"] = json.loads(base64.b64decode(message["body"]))
            # Celery's producer passes these two on to where they mean nothing.
            assert long["properties"].pop("argsrepr") == long["properties"].pop("kwargsrepr") == ""
            del long["properties"]["reply_to"], quick["properties"]["reply_to"]
            assert quick == long

    def test_its_exchange_is_redis_default_so_that_a_lost_workers_message_finds_its_way(
        self, site1
    ):
        frappe.enqueue(tasks.add, x=1)
        info = pushed(site1)["properties"]["delivery_info"]
        assert info == {"exchange": "", "routing_key": f"{site1.id}:default"}

    def test_a_call_whose_reply_was_lost_is_sent_once(self, site1):
        here = runtime.current()
        frappe.enqueue(tasks.add, x=1)
        message = here.ledger.records("site1")[0].message
        assert here.broker.publish([Sending(message)], here.ledger) == [True]
        assert here.broker.depth("default") == 1


class TestLongWay:
    @pytest.mark.parametrize("signal", [before_task_publish, after_task_publish])
    def test_who_listens_to_a_signal_hears_of_every_job(self, site1, signal):
        with connected(signal) as heard:
            job = frappe.enqueue(tasks.add, x=1)
        assert heard == [(TASK, job.message_id)]

    def test_who_stands_in_the_place_of_send_task_sees_every_job(self, site1, monkeypatch):
        original, seen = Celery.send_task, []

        def send_task(self, name, *arguments, **options):
            seen.append(name)
            return original(self, name, *arguments, **options)

        monkeypatch.setattr(Celery, "send_task", send_task)
        frappe.enqueue(tasks.add, x=1)
        assert seen == [TASK]

    @pytest.mark.parametrize(
        "option", ["task_send_sent_event", "task_compression"], ids=["events", "compression"]
    )
    def test_what_the_app_wants_of_every_message_it_gets(self, site1, option, monkeypatch):
        app = runtime.current().app
        values = {"task_send_sent_event": True, "task_compression": "gzip"}
        app.conf[option] = values[option]
        frappe.enqueue(tasks.add, x=1)
        message = pushed(site1)
        assert "argsrepr" in message["properties"]  # Celery's producer made it
        assert ("compression" in message["headers"]) == (option == "task_compression")

    def test_an_app_that_runs_its_tasks_at_once_runs_ours_at_once(self, site1):
        here = runtime.current()
        here.app.conf.task_always_eager = True
        job = frappe.enqueue(tasks.add, x=40, y=2)
        assert here.broker.depth("default") == 0
        assert (job.get_status(), job.result) == ("finished", 42)

    def test_a_prefix_of_all_keys_is_honoured(self, make_bench):
        bench = make_bench()
        here = bench.use()
        options = here.app.conf.broker_transport_options
        here.app.conf.broker_transport_options = options | {"global_keyprefix": f"{bench.id}-p:"}
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.add, x=1)
            assert here.broker.depth("default") == 1
            server = redis.Redis.from_url(bench.redis_url)
            assert server.llen(f"{bench.id}-p:{bench.id}:default\x06\x166") == 1
            assert job.cancel()
        assert here.broker.depth("default") == 0


class TestMany:
    def test_they_run_and_come_back_in_order(self, shared_site):
        items = [{"method": tasks.add, "x": number, "queue": "short"} for number in range(50)]
        jobs = frappe.enqueue_many(items)
        assert [job.wait(20) for job in jobs] == list(range(50))
        assert {job.queue for job in jobs} == {"short"}

    def test_a_thousand_are_a_few_round_trips(self, site1):
        frappe.enqueue(tasks.ping)
        with commands(site1.redis_url, site1.id) as seen:
            jobs = frappe.enqueue_many({"method": tasks.add, "x": number} for number in range(1000))
        assert len({job.id for job in jobs}) == 1000
        assert runtime.current().broker.depth("default") == 1001
        assert seen == ["EVALSHA"] * 5

    def test_all_of_enqueues_options_hold(self, site1):
        first = frappe.enqueue(tasks.ping, job_id="taken", deduplicate=True)
        jobs = frappe.enqueue_many(
            [
                {"method": "acme.tasks.ping", "job_id": "taken", "deduplicate": True},
                {"method": tasks.ping, "at_front": True, "job_name": "Front"},
                {"method": tasks.add, "x": 1, "timeout": 9, "event": "night"},
                {"method": tasks.ping, "enqueue_after_commit": True, "queue": "long"},
            ]
        )
        assert [job and job.name for job in jobs] == [None, "Front", "acme.tasks.add", None]
        assert (jobs[1].position, first.position, jobs[2].timeout) == (0, 1, 9)
        assert runtime.current().broker.depth("long") == 0
        frappe.db.commit()
        assert runtime.current().broker.depth("long") == 1

    @pytest.mark.parametrize(
        "bad",
        [
            {"method": tasks.add},
            {"method": "os.system"},
            {"method": tasks.ping, "queue": "nope"},
            {"method": tasks.ping, "timeout": -1},
            {"method": tasks.echo, "value": object()},
            {"method": tasks.ping, "now": True},
            {"method": tasks.celery_add, "x": 1, "y": 2},
            {"queue": "short"},
            "acme.tasks.ping",
        ],
    )
    def test_one_bad_item_is_named_by_its_index_and_nothing_is_sent(self, site1, bad):
        with pytest.raises(errors.ArgumentError, match=r"^Item 1: .*Nothing was sent\.$") as caught:
            frappe.enqueue_many([{"method": tasks.ping}, bad, {"method": tasks.ping}])
        assert caught.value.details["index"] == 1
        assert runtime.current().broker.depth("default") == 0
        assert frappe.get_jobs() == {}

    def test_a_broker_that_is_down_says_that_none_was_sent(self, make_bench):
        make_bench(redis_queue="redis://127.0.0.1:1/0").use()
        with frappe.site("site1"), pytest.raises(errors.BrokerUnavailable) as caught:
            frappe.enqueue_many([{"method": tasks.ping}])
        assert caught.value.details["sent"] == []

    def test_none_is_none(self, site1):
        assert frappe.enqueue_many([]) == []

    def test_over_max_queued_jobs_the_whole_batch_is_refused(self, make_bench):
        make_bench(max_queued_jobs=2).use()
        with frappe.site("site1"):
            with pytest.raises(errors.QueueOverloaded):
                frappe.enqueue_many([{"method": tasks.ping}] * 3)
            assert runtime.current().broker.depth("default") == 0
            assert len(frappe.enqueue_many([{"method": tasks.ping}] * 2)) == 2
