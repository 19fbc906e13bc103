"""What Redis knows of the schedule: who leads, what is due, and that nothing is moved twice."""

from __future__ import annotations

import json

import pytest

from frappe_jobs import runtime
from frappe_jobs.scheduler.frequency import Schedule
from frappe_jobs.scheduler.timetable import CHUNK, Due, Entry, Look

NOW = 1_000_000.0


def entry(name="daily", site="site1"):
    schedule = Schedule("0 0 * * *")
    return Entry(site, name, "acme.tasks.ping", "default", schedule, "Europe/Berlin")


def put(timetable, entries):
    for site in {one.site for one in entries}:
        ours = {one: at for one, at in entries.items() if one.site == site}
        assert timetable.replace(site, timetable.ticket(site), [], ours)


@pytest.fixture
def timetable(bench):
    return runtime.current().timetable


def look(timetable, token="one", now=NOW, lock=30):
    return timetable.look(token, lock, now)


class TestLeading:
    def test_who_looks_first_leads_and_the_others_see_nothing(self, timetable):
        put(timetable, {entry(): NOW - 1})
        first = look(timetable)
        assert (first.leads, first.is_new, len(first.due)) == (True, True, 1)
        assert look(timetable, "two") == Look(leads=False)
        again = look(timetable)
        assert (again.leads, again.is_new) == (True, False)
        assert timetable.leader() == "one"

    def test_each_look_makes_the_lock_live_its_whole_time_again(self, timetable):
        look(timetable, lock=30)
        look(timetable, lock=90)
        assert 60 < timetable.redis.ttl(timetable.lock_key) <= 90

    def test_a_lock_of_a_clock_that_was_ahead_does_not_outlive_its_holder(self, timetable):
        look(timetable, lock=86_400)
        assert look(timetable, "two", lock=30) == Look(leads=False)
        assert timetable.redis.ttl(timetable.lock_key) <= 30

    def test_only_the_leader_can_let_go_and_then_another_one_leads(self, timetable):
        look(timetable)
        timetable.let_go("two")
        assert timetable.leader() == "one"
        timetable.let_go("one")
        assert timetable.leader() is None
        assert look(timetable, "two").is_new


class TestLooking:
    def test_what_is_due_comes_with_the_longest_due_first_and_when_the_next_is(self, timetable):
        entries = {
            entry("at once"): NOW,
            entry("late"): NOW - 9,
            entry("later"): NOW + 7,
        }
        put(timetable, entries | {entry("much later"): NOW + 70})
        found = look(timetable)
        assert [(due.entry.name, due.at) for due in found.due] == [
            ("late", NOW - 9), ("at once", NOW),
        ]  # fmt: skip
        assert found.due[0].entry == entry("late")
        assert found.next_at == NOW + 7

    def test_with_nothing_to_come_there_is_no_next(self, timetable):
        assert look(timetable).next_at is None
        put(timetable, {entry(): NOW})
        assert look(timetable).next_at is None

    def test_a_look_takes_only_so_many(self, timetable):
        put(timetable, {entry(str(number)): NOW - number for number in range(CHUNK + 3)})
        names = [due.entry.name for due in look(timetable).due]
        assert names == [str(number) for number in range(CHUNK + 2, 2, -1)]

    def test_one_that_was_lost_is_in_nobodys_way(self, timetable):
        put(timetable, {entry("lost"): NOW - 2, entry("half"): NOW - 1, entry("there"): NOW})
        timetable.redis.delete(timetable._key("site1:lost"))
        timetable.redis.hdel(timetable._key("site1:half"), "due")
        assert [due.entry.name for due in look(timetable).due] == ["there"]
        assert timetable.redis.zcard(timetable.schedule_key) == 1


class TestMoving:
    def of_site1(self, timetable):
        return {name: found[1] for name, found in timetable.of_site("site1").items() if found}

    def test_it_is_due_next_and_looked_at_again_when_it_is_told(self, timetable):
        put(timetable, {entry(): NOW})
        timetable.move([(Due(entry(), NOW), NOW + 60, NOW + 5)])
        assert look(timetable).next_at == NOW + 5
        (due,) = look(timetable, now=NOW + 5).due
        assert due.at == NOW + 60
        meta = json.loads(timetable.redis.hget(timetable._key("site1:daily"), "meta"))
        assert (meta["last_run_at"]["year"], meta["last_run_at"]["minute"]) == (
            1970,
            46,
        )

    def test_one_that_was_changed_meanwhile_stays_as_it_is(self, timetable):
        put(timetable, {entry(): NOW, entry("other"): NOW})
        seen = look(timetable).due
        put(timetable, {entry(): NOW + 600})
        timetable.move([(due, NOW + 60, NOW + 60) for due in seen])
        assert self.of_site1(timetable) == {"daily": NOW + 600, "other": NOW + 60}
        assert look(timetable, now=NOW + 60).due == [Due(entry("other"), NOW + 60)]

    def test_one_that_was_removed_meanwhile_stays_away(self, timetable):
        put(timetable, {entry(): NOW})
        (due,) = look(timetable).due
        timetable.replace("site1", timetable.ticket("site1"), ["daily"], {})
        timetable.move([(due, NOW + 60, NOW + 60)])
        assert timetable.of_site("site1") == {}
        assert look(timetable, now=NOW + 60).due == []
        assert not timetable.redis.exists(timetable._key("site1:daily"))

    def test_one_that_left_the_schedule_alone_does_not_come_back_by_it(self, timetable):
        put(timetable, {entry(): NOW})
        (due,) = look(timetable).due
        timetable.redis.zrem(timetable.schedule_key, timetable._key("site1:daily"))
        timetable.move([(due, NOW + 60, NOW + 60)])
        assert look(timetable, now=NOW + 60).due == []


def test_the_entries_of_a_site_are_its_own(timetable):
    put(timetable, {entry(): NOW, entry(site="site2"): NOW + 1})
    assert timetable.of_site("site1") == {"daily": (entry(), NOW)}
    timetable.replace("site1", timetable.ticket("site1"), ["daily"], {})
    assert timetable.of_site("site2") == {"daily": (entry(site="site2"), NOW + 1)}
    timetable.redis.hset(timetable._key("site2:daily"), "definition", "{half")
    assert timetable.of_site("site2") == {"daily": None}
