"""Workers, which send what is due, under kill -9 around the due times of jobs for later."""

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


def test_each_job_for_later_runs_once_whoever_is_killed(scene, broker, random, size, found):
    jobs, kills, span = size((1_000, 12, 30), (100, 2, 4))
    killed: Counter[str] = Counter()
    with Ends() as ends:
        first = time.time() + 5
        sent = [
            frappe.enqueue_in(
                first - time.time() + random.uniform(0, span), tasks.run, number=number,
                again=number % 10 == 0,
            )
            for number in range(jobs)
        ]  # fmt: skip
        # None: sending the others took so long that it was to begin at once
        due = {job.message_id: job.due or 0 for job in sent}
        with Crew(scene.bench, "--concurrency", "2", "--quiet") as crew:
            for moment in sorted(random.uniform(0, span) for _ in range(kills)):
                wait_until(lambda at=first + moment: time.time() > at, 60)
                killed[crew.kill(random)] += 1
            scene.wait_for_all(180, crew.assert_alive)
            healed = crew.sent_again
            verdict = scene.judge([job.id for job in sent])
            twice = [one for one, count in ends.counted.items() if count > 1]
    for job in sent:
        job.refresh()
    early = [job.id for job in sent if job.started_at < due[job.message_id] - 0.05]
    hit = ", ".join(f"{count} {kind}" for kind, count in sorted(killed.items()))
    found(
        f"{jobs:,} jobs for later, {kills} kills ({hit}): {verdict}, {len(twice)} ended twice, "
        f"{len(early)} too early; {healed} messages were sent again by the sweep"
    )
    assert verdict.faults + twice + early == []
