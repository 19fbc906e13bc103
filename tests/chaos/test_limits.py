"""Limits in a storm of kill -9: never more than so many run, each job ends, no room is lost"""

from __future__ import annotations

import time

import pytest
from acme import tasks
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(600)

#: By concurrency key how many may run; one limit is of the method, over all of them.
KEYS, EACH, ALL = 9, 2, 5


@pytest.fixture
def config(config):
    method = f"method:{tasks.run_limited.__module__}.{tasks.run_limited.__qualname__}"
    limits = {"concurrency_key": {"running": EACH}, method: {"running": ALL, "per": "bench"}}
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


def _left(ledger):
    """The keys under which somebody still counts or waits."""
    counted = "running", "waiting", "called", "looks"
    return [
        key
        for kind in (*(f"limit:{one}*" for one in counted), "limited:*")
        for key in ledger.redis.scan_iter(ledger._key(kind), count=10_000)
    ]
