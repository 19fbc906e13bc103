"""Two workers under kill -9 at random: of their processes, of their parents, of all at once


Nothing is lost, no job runs twice at a time.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest
from acme import tasks
from chaos.crew import Crew
from chaos.ends import Ends

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(600)

#: Seconds at most that a job takes.
LONGEST = 0.02


def test_every_job_ends_once_whatever_is_killed(scene, broker, random, size, found):
    jobs, kills = size((5_000, 60), (100, 2))
    killed: Counter[str] = Counter()
    began = time.monotonic()
    with Ends() as ends, Crew(scene.bench, "--concurrency", "2", "--quiet") as crew:
        sent = frappe.enqueue_many(
            {"method": tasks.run, "number": number, "seconds": random.uniform(0, LONGEST)}
            for number in range(jobs)
        )
        for moment in sorted(random.sample(range(jobs), kills)):
            wait_until(lambda at=moment: scene.runs.begun >= at, 60)
            killed[crew.kill(random)] += 1
        scene.wait_for_all(60, crew.assert_alive)
        healed = crew.sent_again
        verdict = scene.judge([job.id for job in sent])
        twice = [one for one, count in ends.counted.items() if count > 1]
    hit = ", ".join(f"{count} {kind}" for kind, count in sorted(killed.items()))
    found(
        f"{jobs:,} jobs, {kills} kills ({hit}): {verdict}, {len(twice)} ended twice; "
        f"{healed} messages were sent again by the sweep; "
        f"{time.monotonic() - began:.0f} s"
    )
    assert verdict.faults + twice == []
    if broker == "redis":  # taking a message and noting who holds it is one step
        assert healed == 0
