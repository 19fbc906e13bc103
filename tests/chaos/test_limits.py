"""Limits in a storm of kill -9: no more run or begin than may, each job ends, no room is lost"""

from __future__ import annotations

import time
from threading import Event, Thread

import pytest
from acme import tasks
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(600)

#: By concurrency key how many may run; one limit is of the method, over all of them.
KEYS, EACH, ALL = 9, 2, 5
#: How many may begin in a second, of those with the same value of an argument.
VALUES, RATE = 3, 30


@pytest.fixture
def config(config):
    running, rated = (
        f"method:{method.__module__}.{method.__qualname__}"
        for method in (tasks.run_limited, tasks.run_at_rate)
    )
    limits = {
        "concurrency_key": {"running": EACH},
        running: {"running": ALL, "per": "bench"},
        rated: {"rate": f"{RATE}/s", "per": "argument:key"},
    }
    return config | {"frappe_jobs_limits": limits}


def test_no_more_run_than_may_and_each_job_ends(scene, broker, random, size, found):
    jobs, kills = size((5_000, 40), (150, 3))
    ledger = runtime.current().ledger
    began = time.monotonic()
    with Crew(scene.bench, "--concurrency", "4", "--quiet") as crew:
        wait_until(ledger.limits, 30)
        sent = frappe.enqueue_many(
            {
                "method": tasks.run_limited, "number": number, "key": key, "most": EACH,
                "concurrency_key": key, "seconds": 0.01,
            }
            for number in range(jobs)
            for key in [f"key {random.randrange(KEYS)}"]
        )  # fmt: skip
        for moment in sorted(random.sample(range(jobs), kills), reverse=True):
            wait_until(lambda left=moment: scene.open() <= left, 120)
            crew.kill(random)
        scene.wait_for_all(120, crew.assert_alive)
        healed = crew.sent_again
        verdict = scene.judge([job.id for job in sent])
        wait_until(lambda: not _left(ledger), 30)
    violations = scene.bench.marks("no room")
    found(
        f"{jobs:,} jobs under {KEYS + 1} limits, {kills} kills: {verdict}; {len(violations)} began "
        f"where there was no room, {healed} were sent again by the sweep; "
        f"{time.monotonic() - began:.0f} s"
    )
    assert (verdict.faults, violations) == ([], [])
    if broker == "redis":
        assert healed == 0


def test_no_more_begin_in_any_second_than_may_and_each_job_ends(scene, broker, random, size, found):
    jobs, kills = size((4_000, 30), (240, 3))
    ledger = runtime.current().ledger
    began = time.monotonic()
    values = [f"value {random.randrange(VALUES)}" for _ in range(jobs)]
    with Crew(scene.bench, "--concurrency", "4", "--quiet") as crew:
        wait_until(ledger.limits, 30)
        with Starts({*values}) as starts:
            sent = frappe.enqueue_many(
                {"method": tasks.run_at_rate, "number": n, "key": value, "again": n % 20 == 0}
                for n, value in enumerate(values)
            )
            for moment in sorted(random.sample(range(jobs), kills), reverse=True):
                wait_until(lambda left=moment: scene.open() <= left, 240)
                crew.kill(random)
            scene.wait_for_all(240, crew.assert_alive)
        healed = crew.sent_again
        verdict = scene.judge([job.id for job in sent])
        wait_until(lambda: not _left(ledger), 30)
    most = max(map(_most_in_a_second, starts.moments.values()))
    found(
        f"{jobs:,} jobs of {VALUES} values at {RATE}/s each, {kills} kills: {verdict}; of "
        f"{starts.count:,} starts that were seen at most {most} of a value in a second, {healed} "
        f"were sent again by the sweep; {time.monotonic() - began:.0f} s"
    )
    assert verdict.faults == []
    assert starts.count > 0.9 * scene.runs.begun
    assert most <= RATE
    if broker == "redis":
        assert healed == 0


class Starts(Thread):
    """When jobs of each value began by Redis's clock, which alone is exact, as it is noted there.

    It is noted for a second, so whoever does not look in time sees fewer.
    """

    def __init__(self, values):
        super().__init__(daemon=True)
        self._ledger, self._is_over = runtime.current().make_ledger(), Event()
        of = f"limit:begun:method {tasks.__name__}.{tasks.run_at_rate.__name__}|site1"
        self._keys = [self._ledger._key(f'{of} "{value}"') for value in values]
        self.moments = {key: {} for key in self._keys}

    def run(self):
        while not self._is_over.wait(0.1):
            for key in self._keys:
                self.moments[key].update(self._ledger.redis.zrange(key, 0, -1, withscores=True))

    @property
    def count(self):
        return sum(map(len, self.moments.values()))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self._is_over.set()
        self.join()


def _most_in_a_second(began):
    """Of any second how many begin in it at the most; one begins as another leaves it."""
    moments, first, most = sorted(began.values()), 0, 0
    for place, moment in enumerate(moments):
        while moment - moments[first] >= 1:
            first += 1
        most = max(most, place - first + 1)
    return most


def _left(ledger):
    """The keys under which somebody still counts or waits."""
    counted = "running", "waiting", "called", "looks"
    return [
        key
        for kind in (*(f"limit:{one}*" for one in counted), "limited:*")
        for key in ledger.redis.scan_iter(ledger._key(kind), count=10_000)
    ]
