"""The clock by which jobs are due jumps: a scheduler in this process, the time its argument."""

from __future__ import annotations

import time

import pytest
from integration.test_schedule import migrated, with_hooks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.celery.beat import BenchScheduler
from frappe_jobs.scheduler.timetable import Timetable
from frappe_jobs.testing import wait_until

DAY, HOUR = 86_400, 3_600
EVERY, NIGHTLY = "acme.tasks.often", "acme.tasks.ping"


class Shifted(Timetable):
    """Redis's clock, so many seconds ahead."""

    ahead = 0.0

    def now(self):
        return super().now() + self.ahead

    def look(self, token, lock, now=None, *, clock=None):
        return super().look(token, lock, self.now(), clock=clock)


@pytest.fixture
def scheduler(make_bench):
    bench = make_bench(frappe_jobs_scheduler_lock=30)
    with_hooks(bench, {"cron": {"* * * * * *": [EVERY]}, "daily": [NIGHTLY]})
    bench.use()
    migrated(bench)
    here = runtime.current()
    # Cached properties: what they hold is what all others use.
    here.__dict__["timetable"] = Shifted(here.in_force.schedule_url, here.settings.prefix)
    here.__dict__.pop("sync", None)
    made = BenchScheduler(here.app, lazy=True)
    goes_on(made)
    yield made
    made.close()


def queued():
    """The due times of each job that have been queued."""
    here = runtime.current()
    found = {EVERY: [], NIGHTLY: []}
    for record in here.ledger.records("site1"):
        found[record.message.name].append(record.message.arguments["due"])
    return found


def goes_on(scheduler, timeout=20.0):
    """Tick until one more is queued; seconds that took, and the due time."""
    begun, before = time.monotonic(), queued()[EVERY]
    frappe_cancel()

    def is_queued():
        scheduler.tick()
        return len(queued()[EVERY]) > len(before)

    wait_until(is_queued, timeout, interval=0.2)
    return time.monotonic() - begun, max(queued()[EVERY])


def frappe_cancel():
    """Nobody runs them: those that wait would keep others from being queued."""
    with frappe.site("site1"):
        for record in runtime.current().ledger.records("site1"):
            runtime.current().jobs.of(record).cancel()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_one_that_is_wrong_for_seconds_does_nothing_meanwhile(scheduler, jump):
    before = queued()
    runtime.current().timetable.ahead = jump
    for _ in range(5):
        scheduler.tick()
    assert queued() == before
    runtime.current().timetable.ahead = 0.0
    took, due = goes_on(scheduler)
    assert took < 10 and abs(due - time.time()) < 20
    assert not queued()[NIGHTLY]


def test_a_restart_within_it_heals_all_that_it_has_done(scheduler):
    """A scheduler that begins knows of no jump."""
    here = runtime.current()
    here.timetable.ahead = DAY
    scheduler.close()
    other = BenchScheduler(here.app, lazy=True)
    goes_on(other)  # for the time that it seems to have missed
    _, due = goes_on(other)
    assert due > time.time() + DAY - 60
    assert len(queued()[NIGHTLY]) == 1, "it comes too early"
    other.close()
    here.timetable.ahead = 0.0
    again = BenchScheduler(here.app, lazy=True)
    begun = time.monotonic()
    wait_until(lambda: again.tick() >= 0 and min(dues()) < time.time() + 60, 20, interval=0.2)
    assert time.monotonic() - begun < 15
    assert max(dues()) < time.time() + DAY
    frappe_cancel()
    near = len([at for at in queued()[EVERY] if at < time.time() + HOUR])
    wait_until(
        lambda: again.tick() >= 0
        and len([at for at in queued()[EVERY] if at < time.time() + HOUR]) > near,
        20, interval=0.2,
    )  # fmt: skip
    again.close()


def dues():
    return [found[1] for found in runtime.current().timetable.of_site("site1").values()]
