"""What happens to jobs, counted in the steps themselves, folded and read, on a real Redis."""

from __future__ import annotations

import time

import pytest
from recorded import ANOTHER, SOMEBODY, begun, come_due, message, recorded

from frappe_jobs import runtime
from frappe_jobs.history.counts import RELATIVE_ERROR
from frappe_jobs.ledger.record import FAILED, FINISHED
from frappe_jobs.message import Sending

HOSTILE = ["a:b", "e:", "", "x" * 5000, "\x00\n\x1b[31m", "w12:site1", "ключ 'ü\\", "{}[]*?"]


@pytest.fixture
def here(make_bench):
    make_bench(frappe_jobs_history=True).use()
    return runtime.current()


@pytest.fixture
def ledger(here):
    return here.ledger


def counted(here, name="default", by="queue"):
    return here.history.series(3600, by).total(name)


def hashes(here):
    return [*here.ledger.redis.scan_iter(here.ledger._key("history", "*"))]


def end_minute(here):
    """As if the minutes so far were over: their numbers become those of minutes before."""
    redis, key = here.ledger.redis, here.ledger._key
    for minute in redis.zrange(key("history:unfolded"), 0, -1):
        before = str(int(minute) - 1)
        for kind in ("jobs", "queue", "site", "method"):
            if redis.exists(key("history", kind, minute)):
                redis.rename(key("history", kind, minute), key("history", kind, before))
        redis.zrem(key("history:unfolded"), minute)
        redis.zadd(key("history:unfolded"), {before: before})


class TestCounting:
    def test_each_step_counts_once_for_queue_site_and_method(self, here, ledger):
        ledger.end(begun(ledger), FINISHED)
        ledger.end(begun(ledger), FAILED)
        retried = begun(ledger)
        ledger.wait_for_retry(retried, 0, {}, holder=SOMEBODY)
        come_due(ledger, retried)
        ledger.start(retried, SOMEBODY)
        ledger.cancel([recorded(ledger)], "gone")
        for by, name in (("queue", "default"), ("site", "site1"), ("method", "acme.tasks.ping")):
            found = counted(here, name, by)
            assert (found.enqueued, found.started, found.finished) == (4, 4, 1)
            assert (found.failed, found.retried, found.cancelled) == (1, 1, 1)
            assert (found.waited.count, found.run.count) == (3, 2)

    def test_what_is_asked_twice_as_its_reply_was_lost_counts_once(self, here, ledger):
        job = recorded(ledger)
        ledger.record([Sending(job)])
        for _ in range(2):
            ledger.start(job, SOMEBODY, "the run")
        for _ in range(2):
            assert ledger.end(job, FINISHED, call="the call")
        ledger.end(job, FAILED)
        found = counted(here)
        assert (found.enqueued, found.started, found.finished, found.failed) == (1, 1, 1, 0)

    def test_a_run_that_left_no_end_is_a_lost_lease(self, here, ledger):
        job = begun(ledger)
        assert ledger.start(job, ANOTHER).wait  # somebody else's: its message came again
        ledger.release(job, SOMEBODY)
        ledger.start(job, ANOTHER)
        ledger.end(job, FINISHED)
        ledger.start(job, ANOTHER)
        found = counted(here)
        assert (found.leases_lost, found.redelivered, found.started) == (1, 3, 2)
        assert found.waited.count == 1

    def test_a_record_that_was_lost_is_not_enqueued_once_more(self, here, ledger):
        ledger.start(message(), SOMEBODY)
        found = counted(here)
        assert (found.enqueued, found.started) == (0, 1)

    def test_what_is_refused_does_not_count(self, here, ledger):
        sendings = [Sending(message("the id"), claim=True) for _ in range(3)]
        ledger.record(sendings)
        assert counted(here).enqueued == 1

    def test_it_costs_nothing_where_it_is_off(self, bench):
        here = runtime.current()
        ledger = here.ledger
        ledger.end(begun(ledger), FINISHED)
        assert hashes(here) == []
        assert ledger._labels(message()) == ledger._all_labels([message()], anew=False) == ()
        series = here.history.series(3600, "queue")
        assert series.total("default") is None
        assert not any(series.known)

    def test_hostile_names_are_names(self, here, ledger):
        for name in HOSTILE:
            ledger.record([Sending(message(queue=name, site=name, method=name))])
        for by in ("queue", "site", "method"):
            rows = here.history.series(3600, by).rows
            assert {*rows} == {name[:140] for name in HOSTILE}

    def test_a_flood_of_names_fills_no_memory_and_loses_no_count(self, here, ledger):
        """Beyond 4,000 names that come together each counts by itself, and then for no name."""
        for part in range(4):
            ledger.record([Sending(message(queue=f"q{part}-{n}")) for n in range(4_000)])
        minute = ledger.redis.zrange(ledger._key("history:unfolded"), 0, 0)[0]
        sizes = {kind: ledger.redis.hlen(ledger._key("history", kind, minute))
                 for kind in ("jobs", "queue", "site", "method")}  # fmt: skip
        if len(ledger.redis.zrange(ledger._key("history:unfolded"), 0, -1)) == 1:
            assert sizes == {"jobs": 4_000, "queue": 5_001, "site": 1, "method": 1}
            assert counted(here, "").enqueued == 7_000
        assert all(size <= 10_000 for size in sizes.values())
        end_minute(here)
        here.folding.fold()
        assert len(here.history.series(3600, "queue").rows) <= 201
        for by in ("queue", "site", "method"):
            rows = here.history.series(3600, by).rows
            assert sum(counted(here, name, by).enqueued for name in rows) == 16_000

    def test_all_that_happens_to_a_job_is_one_field_each(self, here, ledger):
        """What a step costs: one number, whatever it counts by."""
        ledger.end(begun(ledger), FINISHED)
        minutes = ledger.redis.zrange(ledger._key("history:unfolded"), 0, -1)
        fields = [
            field
            for minute in minutes
            for field in ledger.redis.hkeys(ledger._key("history:jobs", minute))
        ]
        assert sorted(field[0] for field in fields) == ["e", "f", "w"]
        assert not [key for key in hashes(here) if ":queue:" in key]


class TestTimes:
    def test_a_quantile_is_as_far_off_as_is_said_at_most(self, here, ledger):
        for seconds in (0.9, 7, 90, 1234, 80_000):
            job = message(enqueued_at=time.time() - seconds, method=f"waits {seconds}")
            ledger.record([Sending(job)])
            ledger.start(job, SOMEBODY)
            found = counted(here, f"waits {seconds}", "method").waited.quantile(0.95)
            assert found == pytest.approx(seconds, rel=RELATIVE_ERROR + 0.02)
        assert RELATIVE_ERROR < 0.1

    def test_clocks_that_differ_make_no_time_negative(self, here, ledger):
        job = message(enqueued_at=time.time() + 3600)
        ledger.record([Sending(job)])
        ledger.start(job, SOMEBODY)
        ledger.redis.hset(ledger._key("record", job.id), "started_at", time.time() + 900)
        ledger.end(job, FINISHED)
        found = counted(here)
        assert found.waited.quantile(0.5) == found.run.quantile(0.5) == 0.001

    def test_a_job_that_waits_over_midnight_counts_when_it_starts(self, here, ledger):
        job = message(enqueued_at=time.time() - 30 * 3600)
        ledger.record([Sending(job)])
        ledger.start(job, SOMEBODY)
        waited = counted(here).waited.quantile(0.99)
        assert waited == pytest.approx(30 * 3600, rel=RELATIVE_ERROR + 0.01)


def end_hour(here):
    """As if the hour so far were over: its minutes become those of the hour before."""
    redis, key = here.ledger.redis, here.ledger._key
    for minute in redis.zrange(key("history:apart"), 0, -1):
        before = str(int(minute) - 60)
        for kind in ("queue", "site", "method"):
            redis.rename(key("history:apart", kind, minute), key("history:apart", kind, before))
        redis.zrem(key("history:apart"), minute)
        redis.zadd(key("history:apart"), {before: before})


class TestFolding:
    def test_a_folded_minute_says_the_same_by_minute_by_hour_and_in_all(self, here, ledger):
        for status in (FINISHED, FINISHED, FAILED):
            ledger.end(begun(ledger), status)
        before, totals = counted(here), here.history.totals()["default"]
        for over in (end_minute, end_hour):
            over(here)
            here.folding.fold()
            by_hour = here.history.series(7 * 24 * 3600, "queue")
            by_minute = here.history.series(7200, "queue")
            assert (by_hour.step, by_minute.step) == (3600, 60)
            for series in (by_hour, by_minute):
                assert series.total("default").codes == before.codes
            assert here.history.totals()["default"].codes == before.codes == totals.codes
        assert {key.split(":")[3] for key in hashes(here)} == {
            "minutes", "hours", "totals", "unfolded", "in_a_row",
        }  # fmt: skip

    def test_what_comes_later_into_a_folded_minute_is_added(self, here, ledger):
        """A clock that was set back counts into a minute a second time."""
        for _ in range(3):
            ledger.end(begun(ledger), FINISHED)
            end_minute(here)
            here.folding.fold()
            end_hour(here)
            here.folding.fold()
        found = here.history.series(7200, "queue").total("default")
        assert found.finished == here.history.totals()["default"].finished == 3

    def test_a_quiet_minute_that_was_looked_at_is_no_lack_of_data(self, here):
        assert counted(here, "short") is None
        here.folding.fold()
        series = here.history.series(600, "queue")
        assert [place is None for place in series.row("short")] == [True] * 9 + [False]
        assert series.total("short").enqueued == 0

    def test_a_flushed_redis_begins_anew(self, here, ledger):
        recorded(ledger)
        ledger.redis.delete(*hashes(here))
        assert counted(here) is None
        recorded(ledger)
        assert counted(here).enqueued == 1

    def test_a_chunk_that_cannot_be_read_is_begun_anew(self, here, ledger):
        recorded(ledger)
        end_minute(here)
        here.folding.fold()
        for key in hashes(here):  # of minutes, or just after a full hour of that hour
            if ledger.redis.type(key) == "string":
                ledger.redis.set(key, b"\xff\xfe no chunk")
        recorded(ledger)
        end_minute(here)
        here.folding.fold()
        assert counted(here).enqueued == 1
