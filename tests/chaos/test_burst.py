"""--burst, with jobs at front, jobs that are enqueued meanwhile by others, jobs that are retried

The worker exits once nothing is left to do.
"""

from __future__ import annotations

import time

import pytest
from acme import tasks
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import slowness

pytestmark = pytest.mark.timeout(300)

#: Seconds at most from the last job's end to the worker's.
WANTED = 3


def test_it_exits_once_nothing_is_left(scene, random, size, found):
    jobs = size(1_000, 100)
    sent = frappe.enqueue_many(one(random, number, jobs) for number in range(jobs))
    spawned = [job.kwargs["spawn"] for job in sent if job.kwargs.get("spawn")]
    with Crew(scene.bench, "--concurrency", "2", "--burst", "--quiet", size=1) as crew:
        statuses = crew.wait(120)
    ended = time.time()
    left = [runtime.current().broker.depth(queue) for queue in ("short", "default", "long")]
    after = ended - scene.runs.events[-1]["at"]
    verdict = scene.judge([job.id for job in sent] + [f"spawned {number}" for number in spawned])
    found(
        f"{jobs:,} jobs and {len(spawned)} that they enqueued: {verdict}, {scene.open()} left; "
        f"exit {statuses[0]}, {after:.1f} s after the last job's end"
    )
    assert (statuses, left, scene.open(), verdict.faults) == ([0], [0, 0, 0], 0, [])
    assert verdict.finished == jobs + len(spawned)
    assert after < WANTED * slowness()


def one(random, number, jobs):
    item = {"method": tasks.run, "number": number, "queue": random.choice(["default", "short"])}
    special = {
        "at_front": {"at_front": True},
        "spawning": {"spawn": jobs + number},
        "retried": {"again": True},
        "plain": {},
    }
    (kind,) = random.choices(list(special), weights=[5, 5, 1, 30])
    return item | special[kind]
