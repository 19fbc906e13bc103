"""Sites that flood a queue, pauses, cancels and kill -9 at once: who has few jobs waits for few


Nothing is lost, what is paused does not run, no site waits for another's flood.
"""

from __future__ import annotations

import time
from statistics import quantiles

import pytest
from acme import tasks
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.testing import slowness, wait_until

pytestmark = pytest.mark.timeout(600)

#: Of a job of the flood, in seconds.
LENGTH = 0.1
PROCESSES = 4
#: Job lengths: two sites wait for four processes, so a job begins after two at most.  Behind the
#: flood it would begin after more than fifty.
SOON, ON_A_BUSY_MACHINE = 2, 10


@pytest.fixture
def broker():
    return "redis"  # on RabbitMQ the first in is the first out


def test_a_flood_of_one_site_holds_up_no_other(scene, random, size, found):
    jobs, others = size((5_000, 100), (150, 8))
    length = LENGTH * slowness()
    with frappe.site("site2"):
        flood = frappe.enqueue_many(
            {"method": tasks.run, "number": number, "seconds": length} for number in range(jobs)
        )
    waited = []
    with Crew(scene.bench, "--concurrency", str(PROCESSES // 2), "--quiet"):
        wait_until(lambda: scene.runs.begun >= 20, 60)
        for number in range(jobs, jobs + others):
            job = frappe.enqueue(tasks.run, number=number)
            sent = time.monotonic()
            wait_until(lambda job=job: job.get_status() != "queued", 60, interval=0.002)
            waited.append(time.monotonic() - sent)
            wait_until(lambda end=sent + random.uniform(1, 2) * length: time.monotonic() > end, 60)
        left = runtime.current().broker.depth("default")
    worst = quantiles(waited, n=100)[98] / length
    found(
        f"{jobs:,} jobs of one site wait, {others} of another come one by one to {PROCESSES} "
        f"processes: begun after {worst:.1f} job lengths at the 99th percentile ({SOON} are fair)"
    )
    assert left > 0  # the flood was there all the time
    assert worst < SOON + ON_A_BUSY_MACHINE
    runtime.current().jobs.cancel_waiting([job._record.message for job in flood], "over")


def test_whatever_is_killed_and_paused_each_job_ends(scene, random, size, found):
    jobs, kills = size((3_000, 40), (150, 3))
    ledger, broker = runtime.current().ledger, runtime.current().broker
    sent, paused = [], 0
    with Crew(scene.bench, "--concurrency", "2", "--quiet") as crew:
        for number, moment in enumerate(sorted(random.sample(range(jobs), kills))):
            while len(sent) <= moment:
                sent += frappe.enqueue_many(
                    {"method": tasks.run, "number": len(sent) + n, "at_front": n % 5 == 0}
                    for n in range(random.choice((1, 1, 30)))
                )
            crew.kill(random)
            if number % 3 == 0:
                paused += sum(ledger.pause([Pause("default", random.choice(("site1", None)))]))
            elif ledger.pauses():
                ledger.end_pauses(ledger.pauses())
                if number % 2:  # else whoever has ended it was killed behind that
                    broker.pause_ended(["default"])
        ledger.end_pauses(ledger.pauses())
        scene.wait_for_all(90, crew.assert_alive)
        # A message that its killed worker held comes back though its job has ended.
        wait_until(lambda: broker.depth("default") == 0, 60)
        healed = crew.sent_again
        verdict = scene.judge([job.id for job in sent])
    found(
        f"{len(sent):,} jobs, {kills} kills, {paused} pauses: {verdict}; {healed} messages were "
        "sent again by the sweep"
    )
    assert verdict.faults == []
    assert healed == 0
    assert broker.depth("default") == 0
    assert [*ledger.redis.scan_iter(f"{scene.bench.id}:*", count=5000)] == []
