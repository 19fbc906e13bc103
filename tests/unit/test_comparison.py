"""What becomes of an entry beside its record; and which jumps of a clock are believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from frappe_jobs.host.schedule_records import JobType
from frappe_jobs.scheduler.comparison import compare, mended
from frappe_jobs.scheduler.entry import Entry, Put, Stored
from frappe_jobs.scheduler.frequency import Schedule
from frappe_jobs.servers.clock import Watch

UTC = timezone.utc
DAY, HOUR = 86400.0, 3600.0
#: Noon of some day, and the midnight before it.
NOW = datetime(2025, 7, 10, 12, tzinfo=UTC).timestamp()
TODAY = NOW - 12 * HOUR

DAILY = Entry("site1", "a", "acme.tasks.ping", "default", Schedule("0 0 * * *"), "UTC")
HOURLY = replace(DAILY, schedule=Schedule("0 * * * *"))


def at(seconds):
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def record(last=None, created=NOW - 30 * DAY):
    return JobType(
        "a", "acme.tasks.ping", "Daily", "", "default", stopped=False, has_event=False,
        creation=at(created), last_execution=at(last),
    )  # fmt: skip


def stored(due, *, queued=None, last=None, score=None, entry=DAILY, epoch=0):
    return Stored(entry, "", due, due if score is None else score, queued, last, epoch)


def dues(one, there, now=NOW, entry=DAILY):
    """The due time and the epoch that it has afterwards; None: it stays as it is."""
    put = mended(entry, one, there, now)
    return put and (put.due, put.epoch)


class TestRecord:
    def test_what_ran_at_its_time_is_left_as_it_is(self):
        ran = TODAY + 2
        assert mended(DAILY, record(ran), stored(TODAY + DAY, queued=TODAY, last=ran), NOW) is None

    def test_what_has_run_since_is_only_noted(self):
        put = mended(DAILY, record(TODAY + 2), stored(TODAY + DAY, queued=TODAY), NOW)
        assert put == Put(DAILY, TODAY + DAY, TODAY + DAY, TODAY, TODAY + 2)

    def test_one_that_was_set_back_is_due_by_it(self):
        there = stored(TODAY + DAY, queued=TODAY, last=TODAY + 2)
        assert dues(record(NOW - 3 * DAY), there) == (TODAY - 2 * DAY, 0)
        assert dues(record(None, created=NOW - 2 * DAY), there) == (TODAY - DAY, 0)
        never = stored(TODAY + DAY)
        assert dues(record(NOW - 3 * DAY), never) == (TODAY - 2 * DAY, 0)

    def test_the_due_time_that_was_queued_last_is_not_given_again(self):
        there = stored(TODAY + DAY, queued=TODAY, last=TODAY + 2)
        assert dues(record(NOW - DAY), there) == (TODAY + DAY, 0)

    def test_a_job_that_was_queued_and_has_not_run_is_not_queued_again(self):
        """It waits, was purged, or leaves no last execution at all."""
        before = NOW - 9 * DAY
        for queued in (TODAY, TODAY - DAY):
            there = stored(TODAY + DAY, queued=queued, last=before)
            assert mended(DAILY, record(before), there, NOW) is None

    def test_one_that_ran_another_way_is_not_overdue_any_more(self):
        there = stored(TODAY, queued=TODAY - DAY, last=TODAY - DAY)
        put = mended(DAILY, record(NOW - 9), there, NOW)
        assert (put.due, put.queued) == (TODAY + DAY, TODAY)

    @pytest.mark.parametrize("last", [NOW + DAY, 8e10])
    def test_a_last_execution_in_the_future_counts_as_now(self, last):
        found, (put,) = compare({"a": (DAILY, record(last))}, {}, NOW)
        assert put.due == TODAY + DAY and found.ran_ahead == ["a"]
        found, (put,) = compare({"a": (DAILY, record(None, created=last))}, {}, NOW)
        assert put.due == TODAY + DAY


class TestClocks:
    def test_a_due_time_that_cannot_be_the_next_is_of_a_clock_that_was_ahead(self):
        there = stored(TODAY + 3 * DAY, queued=TODAY + 2 * DAY, last=TODAY)
        found, (put,) = compare({"a": (DAILY, record(TODAY))}, {"a": there}, NOW)
        assert found.ahead == ["a"]
        assert (put.due, put.was) == (TODAY + DAY, TODAY + 3 * DAY)

    def test_its_times_come_again_where_every_hour_counts_and_else_only_once(self):
        daily = stored(TODAY + 3 * DAY, queued=TODAY + DAY, last=TODAY)
        put = mended(DAILY, record(TODAY), daily, NOW)
        assert (put.queued, put.epoch) == (TODAY + DAY, 0)
        hourly = stored(NOW + 5 * HOUR, queued=NOW + 4 * HOUR, last=NOW, entry=HOURLY, epoch=2)
        put = mended(HOURLY, record(NOW), hourly, NOW)
        assert (put.due, put.queued, put.epoch) == (NOW + HOUR, None, 3)

    def test_what_is_looked_at_too_late_or_never_is_looked_at_again(self):
        due = TODAY + DAY
        for score in (float("inf"), float("-inf"), due + DAY, due - 1):
            assert dues(record(), stored(due, score=score)) == (due, 0)
        paused = stored(TODAY, score=NOW + 29)
        assert mended(DAILY, record(), paused, NOW) is None


class TestWatch:
    def tell(self, watch, told, steady, wall=None):
        return watch.believes(told, wall=told if wall is None else wall, steady=steady)

    def test_a_clock_that_goes_is_believed_whatever_this_machines_says(self):
        watch = Watch()
        for n in range(5):
            assert self.tell(watch, NOW + 2 * n, 2 * n, wall=NOW + DAY)

    @pytest.mark.parametrize("jump", [DAY, -DAY, HOUR, -HOUR])
    def test_one_that_jumps_alone_is_not_believed_and_is_when_it_is_back(self, jump):
        watch = Watch()
        assert self.tell(watch, NOW, 0)
        for n in range(1, 100):
            assert not self.tell(watch, NOW + jump + n, n, wall=NOW + n)
            assert watch.jump == pytest.approx(jump)
        assert self.tell(watch, NOW + 100, 100)
        assert watch.jump == 0

    def test_after_some_minutes_it_is(self):
        watch = Watch()
        assert self.tell(watch, NOW, 0)
        assert not self.tell(watch, NOW + DAY, 0.1, wall=NOW)
        assert not self.tell(watch, NOW + DAY + 299, 299, wall=NOW + 299)
        assert self.tell(watch, NOW + DAY + 301, 301, wall=NOW + 301)
        assert self.tell(watch, NOW + DAY + 302, 302, wall=NOW + 302)

    @pytest.mark.parametrize(
        ("jump", "doubt"), [(HOUR, 3.6), (-HOUR, 3.6), (DAY, 15), (-9 * DAY, 15)]
    )
    def test_with_this_machines_own_it_is_after_seconds(self, jump, doubt):
        watch = Watch()
        assert self.tell(watch, NOW, 0)
        assert not self.tell(watch, NOW + jump + 1, 1)
        assert not self.tell(watch, NOW + jump + 0.9 + doubt, 0.9 + doubt)
        assert self.tell(watch, NOW + jump + 1.1 + doubt, 1.1 + doubt)

    def test_a_step_within_a_minute_is_none(self):
        watch = Watch()
        assert self.tell(watch, NOW, 0)
        assert self.tell(watch, NOW + 59, 1)
        assert self.tell(watch, NOW + 1, 2)
