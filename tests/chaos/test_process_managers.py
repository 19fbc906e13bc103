"""A restart by honcho and by supervisord under load, each with the file that `setup` writes

Nothing is lost, no job runs twice.
"""

from __future__ import annotations

import pytest
from acme import tasks
from chaos.managers import Honcho, Supervisor, running
from conftest import Bench

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(600)

#: What shells, supervisord and systemd each read in a way of their own.
FOLDER = "a b%h;c $HOME 'ä'"
QUEUES = ("short", "default", "long", "-x.y")
#: Seconds at most that a job takes; honcho waits 5 s.
LONGEST = 0.05


@pytest.fixture
def broker() -> str:
    return "redis"


@pytest.fixture
def config():
    return {"workers": {"-x.y": {"timeout": 60}}}


@pytest.fixture
def make_bench(redis_url, forker, tmp_path):
    return lambda **config: Bench(tmp_path / FOLDER, redis_url, forker, **config)


@pytest.mark.parametrize("manager", [Honcho, Supervisor], ids=lambda kind: kind.__name__)
def test_a_restart_loses_no_job_and_runs_none_twice(manager, scene, random, size, found):
    jobs, restarts = size((1_000, 3), (120, 1))
    with running(manager, scene.bench) as managed:
        sent = frappe.enqueue_many(
            {
                "method": tasks.run, "queue": QUEUES[number % len(QUEUES)], "number": number,
                "seconds": random.uniform(0, LONGEST),
            }
            for number in range(jobs)
        )  # fmt: skip
        for moment in sorted(random.sample(range(jobs // 2), restarts)):
            wait_until(lambda at=moment: scene.runs.begun >= at, 60)
            managed.restart()
        scene.wait_for_all(120)
        managed.stop()
    verdict = scene.judge([job.id for job in sent])
    found(f"{manager.__name__}, {jobs:,} jobs, {restarts} restarts: {verdict}")
    assert verdict.faults == []
    assert (verdict.finished, verdict.runs) == (jobs, jobs)
