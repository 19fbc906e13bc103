"""How many jobs may run at once, or begin in a time: who waits, and who comes next."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from statistics import median

import pytest
from acme import tasks
from recorded import ANOTHER, SOMEBODY, recorded

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.ledger.record import CANCELLED, FINISHED, Attempt
from frappe_jobs.testing import slowness, wait_until


@pytest.fixture
def ledger(bench):
    return runtime.current().ledger


def start(ledger, job, holder=SOMEBODY):
    """The key of the limit that refuses it; None if it has begun."""
    answer = ledger.start(job, holder)
    if isinstance(answer, Attempt):
        return None
    assert answer.limited
    return answer.limited


def come(ledger):
    """The ids of the jobs that are sent for by now."""
    due = ledger.due().due
    assert ledger.send_due(due) == [True] * len(due)
    return [one.message.id for one in due]


def counts(ledger, key):
    (found,) = (use for use in ledger.limits_in_use() if use.key == key)
    return found.running, found.waiting


class TestRunning:
    @pytest.mark.parametrize(
        ("rule", "key"),
        [
            ({"bench": "running=1"}, "bench|"),
            ({"site": "running=1"}, "site|site1"),
            ({"site": "running=9", "site site1": "running=1"}, "site|site1"),
            ({"queue default": "running=1"}, "queue default|"),
            ({"method acme.tasks.ping": "running=1"}, "method acme.tasks.ping|"),
            ({"method acme.tasks.ping": "running=1;per=site"}, "method acme.tasks.ping|site1"),
            (
                {"method acme.tasks.ping": "running=1;per=argument:customer"},
                'method acme.tasks.ping|site1 "C-1"',
            ),
        ],
    )
    def test_the_second_waits_until_the_first_has_ended(self, ledger, rule, key):
        ledger.set_limits(rule)
        one, two = (recorded(ledger, arguments={"customer": "C-1"}) for _ in range(2))
        assert (start(ledger, one), start(ledger, two)) == (None, key)
        assert ledger.read(two.id).limited == key
        assert time.time() - ledger.read(two.id).limited_since < 60
        assert (counts(ledger, key), ledger.count_delayed(["default"])) == ((1, 1), (0, 0, 1))
        assert come(ledger) == []
        ledger.end(one, FINISHED)
        later = recorded(ledger)
        assert come(ledger) == [two.id]
        assert (ledger.position(two), ledger.position(later)) == (0, 1)
        assert start(ledger, two) is None
        assert (counts(ledger, key), ledger.read(two.id).limited) == ((1, 0), None)
        ledger.end(two, FINISHED)
        assert counts(ledger, key) == (0, 0)

    def test_one_that_is_refused_as_the_sweep_looks_is_not_lost(self, ledger, monkeypatch):
        ledger.set_limits({"bench": "running=0"})
        job = recorded(ledger, enqueued_at=time.time() - 100)
        read_all = ledger.read_all

        def read_late(ids):
            assert start(ledger, job) == "bench|"
            return read_all(ids)

        monkeypatch.setattr(ledger, "read_all", read_late)
        since = time.time() - 60
        assert ledger.suspects(["default"], waiting_since=since, looked_for=since) == []

    def test_others_are_not_held_back(self, ledger):
        ledger.set_limits({"site": "running=1", "method acme.tasks.echo": "running=1"})
        assert start(ledger, recorded(ledger)) is None
        assert start(ledger, recorded(ledger, site="site2")) is None
        assert start(ledger, recorded(ledger)) == "site|site1"

    def test_a_concurrency_key_lets_one_run_at_a_time(self, ledger):
        one, two = (recorded(ledger, concurrency_key="C 1") for _ in range(2))
        other = recorded(ledger, concurrency_key="C 2")
        elsewhere = recorded(ledger, concurrency_key="C 1", site="site2")
        assert [start(ledger, job) for job in (one, other, elsewhere)] == [None] * 3
        assert start(ledger, two) == 'key|site1 "C 1"'
        ledger.set_limits({"key": "running=2"})
        wait_until(lambda: come(ledger) == [two.id], 5)
        assert start(ledger, two) is None

    def test_those_at_the_front_come_first_then_by_age(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        now = time.time()
        first = recorded(ledger)
        late, early = recorded(ledger, enqueued_at=now), recorded(ledger, enqueued_at=now - 9)
        front = recorded(ledger, enqueued_at=now + 9, at_front=True)
        assert start(ledger, first) is None
        for job in (late, early, front):
            assert start(ledger, job) == "bench|"
        order = []
        for running in (first, front, early):
            ledger.end(running, FINISHED)
            order += come(ledger)
            assert (
                start(ledger, next(one for one in (late, early, front) if one.id == order[-1]))
                is None
            )
        assert order == [front.id, early.id, late.id]

    def test_who_comes_by_chance_does_not_overtake_who_waits(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        one, two, three = (recorded(ledger, enqueued_at=1000.0 + n) for n in range(3))
        assert start(ledger, one) is None
        assert start(ledger, two) == "bench|"
        ledger.end(one, FINISHED)  # two is sent for
        assert start(ledger, three) == "bench|"
        assert come(ledger) == [two.id]
        assert start(ledger, two) is None

    def test_the_room_of_a_dead_process_is_free_when_nobody_renews_its_lease(self, make_bench):
        ledger = make_bench(frappe_jobs_lease=6).use().ledger
        ledger.set_limits({"bench": "running=1"})
        dead, two = recorded(ledger), recorded(ledger)
        assert start(ledger, dead) is None
        assert start(ledger, two) == "bench|"
        self.end_of_lease(ledger, dead)
        ended = ledger.now()
        wait_until(lambda: come(ledger) == [two.id], 30)
        assert ledger.now() - ended >= 2, "it may be renewed until then"
        assert start(ledger, two) is None
        ledger.release(dead, SOMEBODY)
        assert start(ledger, dead, ANOTHER) == "bench|"  # its message comes back
        ledger.end(two, FINISHED)
        assert come(ledger) == [dead.id]
        assert start(ledger, dead, ANOTHER) is None
        assert ledger.read(dead.id).died == 1

    def test_who_renews_it_after_a_failover_has_kept_its_room(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        one, two = recorded(ledger), recorded(ledger)
        assert start(ledger, one) is None
        assert start(ledger, two) == "bench|"
        self.end_of_lease(ledger, one)  # as where the new server's clock is ahead
        key = ledger._key("limit:running:bench|")
        wait_until(lambda: come(ledger) == [] and ledger.redis.zscore(key, one.id) < 0, 30)
        ledger.renew([(one.id, SOMEBODY)])
        wait_until(lambda: come(ledger) == [] and ledger.redis.zscore(key, one.id) > 0, 30)
        assert start(ledger, two) == "bench|"
        assert counts(ledger, "bench|") == (1, 1)

    @staticmethod
    def end_of_lease(ledger, job):
        ledger.redis.delete(ledger._key("lease", job.id))
        ledger.redis.zadd(ledger._key("limit:running:bench|"), {job.id: 1.0})  # as it was seen

    def test_one_whose_process_died_takes_its_own_room_again(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        job = recorded(ledger)
        assert start(ledger, job) is None
        ledger.release(job, SOMEBODY)
        assert start(ledger, job, ANOTHER) is None
        assert counts(ledger, "bench|") == (1, 0)

    @pytest.mark.parametrize("how", ["retry", "hand back"])
    def test_who_runs_no_longer_gives_its_room_back(self, ledger, how):
        ledger.set_limits({"bench": "running=1"})
        one, two = recorded(ledger), recorded(ledger)
        assert start(ledger, one) is None
        assert start(ledger, two) == "bench|"
        if how == "retry":
            ledger.wait_for_retry(one, 60, {})
        else:
            ledger.hand_back(one, SOMEBODY)
        assert come(ledger) == [two.id]

    def test_what_is_refused_by_one_limit_leaves_the_room_of_the_other(self, ledger):
        ledger.set_limits({"bench": "running=2", "method acme.tasks.ping": "running=1"})
        one, two = recorded(ledger), recorded(ledger)
        other = recorded(ledger, method="acme.tasks.echo")
        assert (start(ledger, one), start(ledger, two)) == (None, "method acme.tasks.ping|")
        assert start(ledger, other) is None
        third = recorded(ledger, method="acme.tasks.echo")
        assert start(ledger, third) == "bench|"
        ledger.end(one, FINISHED)
        assert sorted(come(ledger)) == sorted([two.id, third.id])
        answers = {start(ledger, two), start(ledger, third)}
        assert answers == {None, "bench|"}

    def test_one_that_is_cancelled_waits_no_longer(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        one, two, three = (recorded(ledger) for _ in range(3))
        assert [start(ledger, job) for job in (one, two, three)] == [None, "bench|", "bench|"]
        ledger.end(two, CANCELLED)
        assert ledger.count_delayed(["default"]).limited == 1
        ledger.end(one, FINISHED)
        assert come(ledger) == [three.id]

    def test_one_that_is_cancelled_as_it_is_sent_for_leaves_its_room_to_the_next(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        one, two, three = (recorded(ledger) for _ in range(3))
        assert [start(ledger, job) for job in (one, two, three)] == [None, "bench|", "bench|"]
        ledger.end(one, FINISHED)
        assert come(ledger) == [two.id]
        ledger.end(two, CANCELLED)
        assert come(ledger) == [three.id]
        assert start(ledger, three) is None

    def test_one_that_is_sent_for_and_does_not_come_keeps_its_room_from_nobody(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        one, two, three = (recorded(ledger) for _ in range(3))
        assert [start(ledger, job) for job in (one, two, three)] == [None, "bench|", "bench|"]
        ledger.end(one, FINISHED)
        assert come(ledger) == [two.id]  # its queue may be paused by now
        wait_until(lambda: come(ledger) == [three.id], 20)
        assert (start(ledger, three), start(ledger, two)) == (None, "bench|")

    def test_without_the_rule_all_come(self, ledger):
        ledger.set_limits({"bench": "running=1"})
        jobs = [recorded(ledger) for _ in range(120)]
        assert [start(ledger, job) for job in jobs] == [None, *["bench|"] * 119]
        assert ledger.set_limits({})
        came = []
        wait_until(lambda: came.extend(come(ledger)) or len(came) >= 119, 10)
        assert sorted(came) == sorted(job.id for job in jobs[1:])
        assert {start(ledger, job) for job in jobs[1:]} == {None}


class TestRate:
    def test_no_more_begin_in_its_time(self, ledger):
        ledger.set_limits({"method acme.tasks.ping": "rate=3/2"})
        jobs = [recorded(ledger) for _ in range(9)]
        begun, left = [], {job.id: job for job in jobs}
        for job in jobs:
            if start(ledger, job) is None:
                begun.append(time.time())
                ledger.end(left.pop(job.id), FINISHED)
        assert len(begun) == 3

        def go_on():
            for one in come(ledger):
                if start(ledger, left[one]) is None:
                    begun.append(time.time())
                    ledger.end(left.pop(one), FINISHED)
            return not left

        wait_until(go_on, 20)
        spans = [begun[n + 3] - begun[n] for n in range(6)]
        assert min(spans) > 1.9, spans
        assert ledger.redis.exists(ledger._key("limit:looks")) == 0


def most_at_once(marks):
    """By name, the most of acme.tasks.work that ran at the same time."""
    running, most = Counter(), Counter()
    for mark in sorted(marks, key=lambda one: one["at"]):
        if mark["what"] in ("begin", "end"):
            running[mark["name"]] += 1 if mark["what"] == "begin" else -1
            most[mark["name"]] = max(most[mark["name"]], running[mark["name"]])
    return dict(most)


def left_of_limits():
    """The keys of limits by which anybody still counts, or waits."""
    ledger = runtime.current().ledger
    of_rates = ("limit:seen", "limit:begun:")
    return {
        key
        for kind in ("limit:*", "limited:*")
        for key in ledger.redis.scan_iter(ledger._key(kind), count=10_000)
        if not any(one in key for one in of_rates)
    }


class TestWorkers:
    @pytest.fixture
    def bench(self, on_each_broker):
        return on_each_broker

    def test_no_two_of_a_key_run_at_once_and_all_run(self, bench):
        keys = [f"key {number % 3}" for number in range(24)]
        with bench.worker("--queue", "default", "--concurrency", "4"):
            jobs = [
                frappe.enqueue(tasks.work, seconds=0.05, name=key, concurrency_key=key)
                for key in keys
            ]
            for job in jobs:
                job.wait(60)
            begun = [mark["at"] for mark in bench.marks("begin") if mark["name"] == "key 0"]
            pauses = [later - one for one, later in pairwise(begun)]
            assert median(pauses) < 0.6 * slowness(), pauses  # and not a look's second
            assert most_at_once(bench.marks()) == {f"key {number}": 1 for number in range(3)}
            wait_until(lambda: left_of_limits() == set(), 15)

    def test_a_change_is_in_force_at_once_and_a_burst_ends_beside_what_is_held_back(self, bench):
        def limit(limits):
            bench.write("common_site_config.json", bench.config | {"frappe_jobs_limits": limits})
            assert bench.run("limits").returncode == 0

        limit({"queue:default": {"running": 0}})
        job = frappe.enqueue(tasks.ping)
        with bench.process("worker", "--queue", "default", "--burst") as worker:
            assert worker.process.wait(30) == 0
        assert "that a limit holds back: 1" in worker.log
        assert (job.get_status(), job.limited) == ("queued", "queue default|")
        with bench.worker("--queue", "default"):
            limit({})
            assert job.wait(10) == "pong"

    def test_what_is_held_back_can_be_given_to_an_older_version(self, bench):
        runtime.current().ledger.set_limits({"bench": "running=0"})
        message = recorded(runtime.current().ledger)
        assert start(runtime.current().ledger, message) == "bench|"
        said = bench.run("queues", "file-back").stdout
        assert "and 1 sent" in said
        assert runtime.current().ledger.count_delayed(["default"]) == (0, 0, 0)
        assert runtime.current().broker.depth("default") == 1
