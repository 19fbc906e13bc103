"""Jobs that wait for their time in the ledger: enqueued for later, retried, or put back."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime, timedelta, timezone

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.celery.mover import move_due
from frappe_jobs.testing import slowness, wait_until


@pytest.fixture
def bench(on_each_broker):
    return on_each_broker


def waiting(kind="delayed", queue="default"):
    ledger = runtime.current().ledger
    return ledger.redis.zrange(ledger._key(kind, queue), 0, -1)


class TestEnqueue:
    def test_for_later_it_is_on_no_broker_until_it_is_due(self, bench):
        here = runtime.current()
        job = frappe.enqueue_in(3600, tasks.add, "long", x=1, at_front=True)
        assert waiting(queue="long") == [job.message_id]
        assert (here.broker.depth("long"), here.ledger.waiting("long")) == (0, 0)
        assert here.ledger.unsent(time.time() + 60) == []
        assert (job.get_status(), job.position) == ("queued", None)
        assert abs(job.due - time.time() - 3600) < 60
        assert move_due(here.ledger, here.broker) > 3500
        here.ledger.reschedule(here.ledger.read(job.message_id).message, time.time() - 1)
        assert move_due(here.ledger, here.broker) == 0
        wait_until(lambda: here.broker.depth("long") == 1, 5)
        assert (here.ledger.waiting("long"), waiting(queue="long"), job.position) == (1, [], 0)
        assert here.ledger.unsent(time.time() + 60) == []
        assert move_due(here.ledger, here.broker) is None

    def test_it_is_begun_to_the_second(self, bench):
        with bench.worker("--queue", "default"):
            at = datetime.now(timezone.utc) + timedelta(seconds=3)
            jobs = [
                frappe.enqueue_at(at, tasks.ping),
                frappe.enqueue_in(timedelta(seconds=3), tasks.ping),
                frappe.enqueue_at(at - timedelta(days=3), tasks.ping),
            ]
            assert jobs[2].wait(2 * slowness()) == "pong"
            for job in jobs[:2]:
                job.wait(30)
                late = job.started_at - at.timestamp()
                assert -0.05 < late < slowness(), late

    def test_many_at_once_each_for_its_own_time_or_now(self, bench):
        at = datetime.now(timezone.utc) + timedelta(hours=1)
        now, one, other, over, tracked = frappe.enqueue_many(
            {"method": tasks.add, "x": 1} | when
            for when in (
                {}, {"enqueue_at": at}, {"enqueue_in": timedelta(hours=2), "at_front": True},
                {"enqueue_at": at - timedelta(days=1)}, {"enqueue_in": 600, "track_job": True},
            )
        )  # fmt: skip
        assert waiting() == [one.message_id, other.message_id]
        assert one.due == at.timestamp() and abs(other.due - time.time() - 7200) < 60
        assert [now.due, over.due] == [None, None]
        frappe.db.commit()
        assert len(waiting()) == 3 and tracked.get_status() == "queued"
        assert wait_until(lambda: runtime.current().broker.depth("default") == 2, 5)

    @pytest.mark.parametrize(
        ("when", "said"),
        [
            ({"enqueue_at": "tomorrow"}, "when must be a datetime"),
            ({"enqueue_in": "soon"}, "soon"),
            ({"enqueue_in": 5, "enqueue_at": datetime(2030, 1, 1)}, "both enqueue_at and"),
            ({"enqueue_in": 60, "expires": 30}, "would never begin"),
        ],
    )
    def test_of_many_a_wrong_time_is_told_with_its_item_and_none_is_sent(self, bench, when, said):
        item = {"method": tasks.add, "x": 1}
        with pytest.raises(errors.ArgumentError, match=rf"Item 1: .*{said}.*Nothing was sent"):
            frappe.enqueue_many([item, item | when])
        assert runtime.current().broker.depth("default") == 0

    def test_after_a_commit_and_tracked(self, bench):
        job = frappe.enqueue_in(600, tasks.ping, track_job=True)
        assert frappe.enqueue_in(600, tasks.ping, enqueue_after_commit=True) is None
        frappe.db.commit()
        assert len(waiting()) == 2
        assert job.get_status() == "queued"
        assert job.due > time.time() + 500
        job.cancel()
        assert len(waiting()) == 1

    def test_from_the_outbox_it_keeps_its_time(self, bench, monkeypatch):
        here = runtime.current()
        with monkeypatch.context() as patch:
            patch.setattr(here.at_commit, "after", lambda things: None)  # its process is killed
            frappe.enqueue_in(600, tasks.ping, enqueue_after_commit=True)
            frappe.db.commit()
        assert waiting() == []
        here.relay.look(time.time() + 60)
        assert len(waiting()) == 1
        here.relay.look(time.time() + 60)
        assert len(waiting()) == 1
        assert here.broker.depth("default") == 0

    @pytest.mark.parametrize(
        ("when", "said"),
        [
            ("tomorrow", "'tomorrow'"),
            (None, "None"),
            (datetime(2026, 1, 1).date(), "date"),
            (datetime(9999, 12, 31, 23), "over 100 years"),
            (datetime(9999, 12, 31, 23, tzinfo=timezone.utc), "over 100 years"),
        ],
    )
    def test_a_date_that_is_none(self, on_redis, when, said):
        with pytest.raises(errors.ArgumentError, match=said):
            frappe.enqueue_at(when, tasks.ping)

    @pytest.mark.parametrize("delta", ["5", None, True, float("nan"), float("inf"), timedelta.max])
    def test_a_time_span_that_is_none(self, on_redis, delta):
        with pytest.raises(errors.ArgumentError):
            frappe.enqueue_in(delta, tasks.ping)

    def test_what_is_over_runs_now(self, on_redis):
        for job in (
            frappe.enqueue_at(datetime(1, 1, 1), tasks.ping),
            frappe.enqueue_in(-5, tasks.ping),
            frappe.enqueue_in(0, tasks.ping),
        ):
            assert job.due is None
        assert runtime.current().broker.depth("default") == 3

    def test_naive_times_are_the_sites(self, bench):
        bench.write("site1/site_config.json", {"db_type": "sqlite", "time_zone": "Europe/Berlin"})
        year = datetime.now().year + 1
        for text, due in (
            (f"{year}-07-01T12:00", f"{year}-07-01T10:00+00:00"),
            (f"{year}-01-10T12:00", f"{year}-01-10T11:00+00:00"),
        ):
            job = frappe.enqueue_at(datetime.fromisoformat(text), tasks.ping)
            assert job.due == datetime.fromisoformat(due).timestamp()

    def test_no_call_here_and_no_celery_task(self, on_redis):
        for options in ({"now": True}, {"is_async": False}):
            with pytest.raises(errors.ArgumentError, match="for later"):
                frappe.enqueue_in(5, tasks.ping, **options)


class TestPlaces:
    def test_it_is_listed_cancelled_and_moved(self, bench):
        here = runtime.current()
        soon, late = frappe.enqueue_in(60, tasks.ping), frappe.enqueue_in(600, tasks.ping)
        for queues in ([], ["default"]):
            found = [record.message.id for record in here.listing.waiting(["site1"], queues)]
            assert sorted(found) == sorted([soon.message_id, late.message_id])
            assert len(here.search(["site1"], queues=queues).page(None, 9).records) == 2
        soon.cancel()
        assert waiting() == [late.message_id]
        late.move(datetime.now(timezone.utc) + timedelta(seconds=30))
        assert 20 < late.due - time.time() < 40
        with pytest.raises(errors.ArgumentError, match="zone"):
            late.move(datetime.now())
        with pytest.raises(errors.JobError, match="cancelled"):
            soon.move(datetime.now(timezone.utc))

    def test_one_that_waits_on_the_broker_is_moved_away_from_its_message(self, bench):
        job = frappe.enqueue(tasks.ping)
        job.move(datetime.now(timezone.utc) + timedelta(seconds=3))
        with bench.worker("--queue", "default") as worker:
            wait_until(lambda: "waits for its time" in worker.log, 10)
            assert job.get_status() == "queued"
            assert job.wait(20) == "pong"

    def test_on_the_command_line(self, on_redis):
        run, site = on_redis.run, ("--site", "site1")
        one = run("enqueue", "acme.tasks.ping", *site, "--in", "2h").stdout.strip()
        two = run("enqueue", "acme.tasks.ping", *site, "--at", "2030-07-01T08:30Z").stdout.strip()
        assert waiting() == [one, two]
        listed = {line["id"]: line for line in json.loads(
            run("jobs", "list", *site, "--format", "json").stdout)}  # fmt: skip
        assert listed[two]["due"] == "2030-07-01T08:30:00.000+00:00"
        assert listed[two]["due"] in run("jobs", "list", *site).stdout
        assert (
            "2030-07-01T09:00:00"
            in run("jobs", "move", one, *site, "--at", "2030-07-01T09:00").stdout
        )
        assert waiting() == [two, one]
        assert run("jobs", "move", two, *site, "--in", "0s").returncode == 0
        assert run("jobs", "cancel", one, *site).returncode == 0
        assert waiting() == [two]
        for wrong, said in (
            (("jobs", "move", two), "Say when"),
            (("jobs", "move", two, "--in", "soon"), "no span of time"),
            (("enqueue", "acme.tasks.ping", "--at", "soon"), "no time"),
            (("enqueue", "acme.tasks.ping", "--at", "2030-01-01", "--in", "2h"), "--at or --in"),
        ):
            refused = run(*wrong, *site)
            assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
        refused = run("jobs", "move", one, *site, "--in", "2h")
        assert (refused.returncode, "only a job that waits" in refused.stderr) == (1, True)

    def test_it_is_neither_lost_nor_too_late(self, bench):
        here = runtime.current()
        frappe.enqueue_in(600, tasks.ping)
        later = time.time() + 10**6
        assert here.ledger.suspects(["default"], waiting_since=later, looked_for=later) == []
        assert here.ledger.oldest("default") is None

    def test_its_id_is_taken(self, bench):
        frappe.enqueue_in(600, tasks.ping, job_id="the id")
        assert frappe.enqueue(tasks.ping, job_id="the id", deduplicate=True) is None
        assert len(waiting()) == 1

    def test_it_does_not_fill_its_queue(self, make_bench):
        bench = make_bench(max_queued_jobs=1)
        bench.use()
        with frappe.site("site1"):
            for _ in range(3):
                frappe.enqueue_in(60, tasks.ping)
            frappe.enqueue(tasks.ping)
            with pytest.raises(errors.QueueOverloaded):
                frappe.enqueue(tasks.ping)

    def test_while_the_broker_is_away_it_is_taken(self, make_bench):
        bench = make_bench(celery_broker_url="amqp://guest@127.0.0.1:1//")
        bench.use()
        with frappe.site("site1"):
            assert frappe.enqueue_in(60, tasks.ping).get_status() == "queued"

    def test_what_the_broker_does_not_take_waits_on(self, bench, monkeypatch):
        here = runtime.current()
        job = frappe.enqueue_in(0.05, tasks.ping)
        wait_until(lambda: here.ledger.now() > job.due)

        def refuse(messages):
            raise errors.BrokerUnavailable("away")

        monkeypatch.setattr(here.broker, "send_again", refuse)
        monkeypatch.setattr(here.broker, "push", lambda message: None)
        with pytest.raises(errors.BrokerUnavailable):
            move_due(here.ledger, here.broker)
        assert (waiting(), waiting("retrying")) == ([], [job.message_id])
        assert here.ledger.unsent(time.time() + 60) == []
        assert here.ledger.waiting("default") == 0

    def test_a_record_that_is_gone_is_forgotten(self, on_redis):
        here = runtime.current()
        job = frappe.enqueue_in(0.01, tasks.ping)
        here.ledger.redis.delete(here.ledger._key("record", job.message_id))
        wait_until(lambda: here.ledger.now() > job.due)
        move_due(here.ledger, here.broker)
        assert waiting() == []

    def test_it_is_history_without_its_wait(self, make_bench):
        bench = make_bench(frappe_jobs_history=True)
        bench.use()
        with frappe.site("site1"), bench.worker("--queue", "default"):
            frappe.enqueue_in(3, tasks.ping).wait(20)
        ledger = runtime.current().ledger
        keys = ledger.redis.keys(ledger._key("history", "jobs", "*"))
        fields = [name for key in keys for name in ledger.redis.hkeys(key)]
        (waited,) = [int(one[1:].split(":")[0]) for one in fields if one.startswith("w")]
        assert 0.001 * 2 ** (waited / 4) < 2.5


class TestDebounce:
    def test_a_later_call_replaces_a_job_that_waits(self, bench):
        jobs = [
            frappe.enqueue_in(60 + x, tasks.add, x=x, job_id="save", debounce=True)
            for x in range(3)
        ]
        assert waiting() == [jobs[2].message_id]
        assert [job.get_status() for job in jobs] == ["cancelled", "cancelled", "queued"]
        assert "replaced" in jobs[0].reason
        now = frappe.enqueue(tasks.add, x=9, job_id="save", debounce=True)
        with bench.worker("--queue", "default"):
            assert now.wait(10) == 9
            assert frappe.enqueue(tasks.ping).wait(10) == "pong"
        assert [mark["x"] for mark in bench.marks("add")] == [9]

    def test_behind_one_that_runs_the_last_one_waits(self, bench):
        with bench.worker("--queue", "default", "--concurrency", "3"):
            first = frappe.enqueue(tasks.work, seconds=3, name="first", job_id="save")
            wait_until(lambda: first.get_status() == "started", 10)
            for name in ("second", "third"):
                last = frappe.enqueue(
                    tasks.work, seconds=0, name=name, job_id="save", debounce=True
                )
            last.wait(30)
        order = [(one["what"], one["name"]) for one in bench.marks() if "name" in one]
        assert order == [
            ("begin", "first"), ("end", "first"), ("begin", "third"), ("end", "third"),
        ]  # fmt: skip
        assert first.get_status() == "finished"

    def test_a_retry_of_the_older_one_does_not_undo_the_last_edit(self, bench):
        with bench.worker("--queue", "default"):
            older = frappe.enqueue(tasks.fail, job_id="save", retry=frappe.Retry(3, 1))
            wait_until(lambda: waiting("retrying") == [older.message_id], 10)
            frappe.enqueue(tasks.echo, tag="last", job_id="save", debounce=True).wait(10)
            wait_until(lambda: older.get_status() == "cancelled", 10)
        assert len(bench.marks("fail")) == 1

    def test_of_a_caller_that_died_in_between_the_older_one_is_dropped(self, bench, monkeypatch):
        here = runtime.current()
        older = frappe.enqueue(tasks.add, x=1, job_id="save", debounce=True)
        monkeypatch.setattr(here.dispatcher, "_waiting_ones", lambda sendings: [])
        newer = frappe.enqueue(tasks.add, x=2, job_id="save", debounce=True)
        assert older.get_status() == "queued"
        with bench.worker("--queue", "default"):
            assert newer.wait(10) == 2
            wait_until(lambda: older.get_status() == "cancelled", 10)
        assert [mark["x"] for mark in bench.marks("add")] == [2]

    def test_it_needs_an_id_and_is_no_deduplicate(self, on_redis):
        for options, said in (({}, "job_id"), ({"job_id": "x", "deduplicate": True}, "Either")):
            with pytest.raises(errors.ArgumentError, match=said):
                frappe.enqueue(tasks.ping, debounce=True, **options)


class TestRetries:
    def test_they_wait_in_the_ledger_and_not_at_a_worker(self, bench):
        here = runtime.current()
        with bench.worker("--queue", "default") as worker:
            job = frappe.enqueue(tasks.fail_first, retry=frappe.Retry(1, 6))
            wait_until(lambda: waiting("retrying") == [job.message_id], 10)
            assert job.get_status() == "queued"
            assert 2 < job.due - time.time() < 7
            assert (here.broker.depth("default"), here.ledger.waiting("default")) == (0, 0)
            worker.process.kill()
            worker.process.wait(5)
            assert waiting("retrying") == [job.message_id]
        with bench.worker("--queue", "default"):
            job.wait(20)
        assert job.attempt == 2

    def test_a_message_that_comes_back_before_the_time_is_dropped(self, bench):
        here = runtime.current()
        with bench.worker("--queue", "default") as worker:
            job = frappe.enqueue(tasks.fail_first, retry=frappe.Retry(1, 5))
            wait_until(lambda: waiting("retrying") == [job.message_id], 10)
            here.broker.send_again([here.ledger.read(job.message_id).message])  # its ack was lost
            wait_until(lambda: "waits for its time" in worker.log, 10)
            assert (job.get_status(), job.attempt) == ("queued", 1)
            job.wait(20)
            assert job.attempt == 2

    def test_one_that_runs_elsewhere_is_put_back_until_its_lease_is_over(self, bench):
        here = runtime.current()
        job = frappe.enqueue(tasks.ping)
        message = here.ledger.read(job.message_id).message
        here.ledger.start(message, "another")
        with bench.worker("--queue", "default"):
            wait_until(lambda: waiting("retrying") == [job.message_id], 10)
            here.ledger.end(message, "finished", {"result": "1"})
            ledger = here.ledger
            ledger.redis.zadd(ledger._key("retrying", "default"), {job.message_id: 1}, xx=True)
            wait_until(lambda: not waiting("retrying"), 10)
        assert here.broker.depth("default") == 0

    def test_burst_waits_for_them_and_leaves_what_is_not_due(self, bench):
        later = frappe.enqueue_in(600, tasks.ping)
        job = frappe.enqueue(tasks.fail_first, retry=frappe.Retry(1, 2))
        with bench.process("worker", "--queue", "default", "--burst") as worker:
            assert worker.process.wait(40) == 0, worker.log
            wait_until(lambda: "not due yet: 1" in worker.log, 5)
        assert (job.get_status(), later.get_status()) == ("finished", "queued")

    def test_of_an_older_version_that_waits_at_a_worker_it_runs_in_time(self, bench):
        here = runtime.current()
        job = frappe.enqueue_in(600, tasks.ping)
        message = here.ledger.read(job.message_id).message
        here.ledger.redis.delete(here.ledger._key("delayed", "default"))  # no part of it then
        options = here.broker.options(message) | {"retries": 1, "countdown": 3}
        task = here.app.tasks["frappe_jobs.execute"]
        at = time.time()
        task.apply_async(args=(message.arguments,), **options)
        with bench.worker("--queue", "default"):
            assert job.wait(20) == "pong"
            assert job.started_at - at > 2.5


def test_a_message_of_a_later_version_waits_for_a_newer_worker(bench):
    here = runtime.current()
    job = frappe.enqueue_in(600, tasks.ping)
    ledger = here.ledger
    message = ledger.read(job.message_id).message
    ledger.redis.delete(ledger._key("delayed", "default"))
    later = message.header() | {"version": 99}
    options = here.broker.options(message) | {"headers": {"frappe_jobs": later}}
    here.app.tasks["frappe_jobs.execute"].apply_async(args=(message.arguments,), **options)
    ledger.redis.delete(ledger._key("record", job.message_id))
    with bench.worker("--queue", "default") as worker:
        wait_until(lambda: "it is for a newer worker" in worker.log, 10)
        wait_until(lambda: waiting() == [job.message_id], 10)
        ledger.redis.zadd(ledger._key("delayed", "default"), {job.message_id: 1})
        wait_until(
            lambda: ledger.redis.zscore(ledger._key("delayed", "default"), job.message_id) > 1, 10
        )
        assert '"version":99' in ledger.redis.hget(
            ledger._key("record", job.message_id), "envelope"
        )


def test_movers_that_are_killed_lose_none_and_send_none_twice(bench):
    """The heavier one is among the chaos tests."""
    total = 100
    at = time.time() + 4
    jobs = [
        frappe.enqueue_at(
            datetime.fromtimestamp(at + number / 50, timezone.utc), tasks.add, x=number
        )
        for number in range(total)
    ]
    with bench.worker("--queue", "default"), bench.worker("--queue", "short") as mover:
        wait_until(lambda: time.time() > at + 0.7, 20)
        os.kill(mover.process.pid, signal.SIGKILL)
        for job in jobs:
            job.wait(120)
    assert sorted(mark["x"] for mark in bench.marks("add")) == [*range(total)]
