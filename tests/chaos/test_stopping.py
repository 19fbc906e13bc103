"""SIGTERM in the middle of long jobs: to the worker, to its group, twice

What runs is finished, or handed back and run by the next workers; nothing runs twice at a time.
"""

from __future__ import annotations

from itertools import product

import pytest
from acme import tasks
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs.celery.stopping import TWICE
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(300)

WAYS = list(product([False, True], [1, 2]))  # to the group, times


def test_what_runs_is_finished_or_handed_back(scene, random, size, found):
    ways = size(WAYS, random.sample(WAYS, 1))
    workers = size(2, 1)
    processes = 2 * workers
    sent: list[str] = []
    handed_back = 0
    for to_group, times in ways:
        with Crew(scene.bench, "--concurrency", "2", size=workers) as crew:
            jobs = frappe.enqueue_many(
                {"method": tasks.run, "number": len(sent) + number, "seconds": seconds}
                for number, seconds in enumerate(lengths(random, 2 * processes, times))
            )
            sent += [job.id for job in jobs]
            wait_until(lambda: len(scene.runs.running()) == processes, 30)
            statuses = crew.stop(to_group=to_group, times=times, pause=1.2 * TWICE)
        assert statuses == [0] * len(statuses), crew.logs
        left = [job.get_status() for job in jobs]
        assert set(left) <= {"finished", "queued"}, left
        handed_back += left.count("queued") - processes
        with Crew(scene.bench, "--concurrency", "2", size=workers):
            scene.wait_for_all(60)
    verdict = scene.judge(sent)
    found(
        f"{len(sent)} jobs, {len(ways)} ways of telling: {verdict}; all exited 0, "
        f"{handed_back} jobs were handed back"
    )
    assert verdict.faults == []
    assert verdict.finished == len(sent)


def lengths(random, count, times):
    """Seconds; told twice, a worker must not have finished before."""
    return [random.uniform(0.5, 1.5) + (times - 1) * 2 for _ in range(count)]
