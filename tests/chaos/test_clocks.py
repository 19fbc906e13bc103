"""A scheduler's own clock jumps, and is another one than that of who takes over

Jobs are due by Redis's clock, so nothing comes early, late or twice.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from chaos.clock import (
    INTERVAL,
    IS_FULL,
    NONE,
    OwnClock,
    Schedulers,
    due_times,
    entries,
    faults,
    make_jobs,
    runs,
)
from chaos.crew import Crew

from frappe_jobs.testing import wait_until

DAY, HOUR = 86_400, 3_600
#: So few that a busy machine runs all that is due: a job that waits still is not queued again.
JOBS = 40
#: Seconds until work goes on, after a clock is right again or was set; more on a busy machine.
GOES_ON = 10

pytestmark = [
    pytest.mark.timeout(900),
    # Its processes start cold; in short tests/integration/test_schedule_clocks.py asks the same.
    pytest.mark.skipif(not IS_FULL, reason="It takes minutes: make chaos."),
    pytest.mark.parametrize("broker", ["redis"]),  # it has no part in this
]


@pytest.fixture
def schedule(scene):
    make_jobs(scene.bench, JOBS)
    return scene


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def seconds_until_all_run(schedule) -> float:
    """Seconds until each job has run from now on, less those that it may take to be due."""
    begun, before = time.monotonic(), len(runs(schedule))
    wait_until(lambda: len({one["job"] for one in runs(schedule)[before:]}) == JOBS, 90)
    return max(0.0, time.monotonic() - begun - INTERVAL)


def run_twice(schedule) -> int:
    """How many runs there were of a due time that had run."""
    return sum(n - 1 for n in Counter((one["job"], one["due"]) for one in runs(schedule)).values())


def test_a_schedulers_own(schedule, size, found):
    """Two of them, one a day ahead of the other; the leader's jumps, and it is killed."""
    folder = schedule.bench.path / "clocks"
    clocks = [OwnClock(folder / name) for name in ("one", "two")]
    late = []
    with Crew(schedule.bench, "--concurrency", "2", "--quiet", size=1) as crew:
        with Schedulers(schedule.bench, size=2, clocks=clocks) as schedulers:
            seconds_until_all_run(schedule)  # what came before they did is queued once
            first = entries()
            for jump in (DAY, -DAY, HOUR):
                for clock in clocks:
                    clock.set(jump)
                wait(size(12, 2))
                clocks[0].set(0)
                late.append(seconds_until_all_run(schedule))
                for one in schedulers.running:
                    one.wait_ready()
                schedulers.kill_leader()  # the clocks are apart
                late.append(seconds_until_all_run(schedule))
            schedulers.stop()
            last = entries()
        schedule.wait_for_all(60, crew.assert_alive)
    expected = due_times(first, last)
    verdict = faults(first, expected)
    found(
        "the leader's clock a day ahead, a day behind, an hour ahead, then taken over by one whose "
        f"clock is right: {expected.total():,} due times: {verdict}, {run_twice(schedule)} run "
        f"twice; nothing later than {max(late):.1f} s"
    )
    assert (verdict, run_twice(schedule)) == (NONE, 0)
    assert max(late) < GOES_ON
