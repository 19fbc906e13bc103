"""The schedule's leader killed, another one standing by; all of it down for an hour

Each due time is queued once and runs once, whatever happens to who queues it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from chaos.clock import (
    INTERVAL,
    JOBS,
    LOCK,
    NONE,
    Schedulers,
    due_times,
    entries,
    faults,
    forget,
    on_brokers,
    sent,
)
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

pytestmark = [pytest.mark.timeout(900)]


@on_brokers
def test_its_leader_is_killed(schedule, random, size, found):
    kills, first = size(60, 3), entries()
    takeovers = []
    with Crew(schedule.bench, "--concurrency", "2", "--quiet", size=1) as crew:
        with Schedulers(schedule.bench) as schedulers:
            for _ in range(kills):
                threading.Event().wait(random.uniform(0.5, 3))
                takeovers.append(schedulers.kill_leader())
            # The kills may be over sooner than all have been due once.
            wait_until(lambda: min(due_times(first, entries()).values()) > 0, 30)
            schedulers.stop()
            last = entries()
        schedule.wait_for_all(60, crew.assert_alive)
    expected = due_times(first, last)
    assert min(expected.values()) > 0
    verdict = faults(first, expected)
    found(
        f"{JOBS} jobs due every {INTERVAL} s, {kills} kills of the leader, two standing by: "
        f"{expected.total():,} due times: {verdict}; another led after {max(takeovers):.1f} s at "
        f"the latest, where the setting is {LOCK} s"
    )
    assert verdict == NONE
    assert max(takeovers) < LOCK + 3.0  # of a busy machine


@pytest.mark.parametrize("broker", ["redis"])  # it carries nothing here
def test_another_one_takes_over_at_default_settings(make_bench, broker, size, found):
    lock = size(30, 4)
    bench = make_bench(frappe_jobs_scheduler_lock=lock)
    bench.use()
    with Schedulers(bench, size=2) as schedulers:
        took = schedulers.kill_leader()
    found(f"the leader killed, with a setting of {lock} s: another led after {took:.1f} s")
    assert took < lock + size(0.5, 3.0)


@on_brokers
def test_it_was_down_for_an_hour_and_redis_was_flushed_meanwhile(schedule, found):
    with frappe.site("site1"):
        for row in frappe.get_all("Scheduled Job Type"):
            record = frappe.get_doc("Scheduled Job Type", row["name"])
            record.last_execution = datetime.now(timezone.utc) - timedelta(hours=1)
            record.save()
    forget(schedule.bench)
    begun = time.time()
    with Schedulers(schedule.bench, size=2) as schedulers:
        wait_until(lambda: sent().total() >= JOBS, 30)
        took = time.time() - begun
        schedulers.stop()
    assert sent() == Counter(dict.fromkeys(entries(), 1))  # nobody ran them: no second ones
    assert min(entries().values()) > begun
    found(f"{JOBS} jobs due since an hour ago: each queued once, all within {took:.1f} s")
