"""A failover to a Redis whose clock is minutes ahead or behind: no job runs twice or is stuck."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from acme import tasks
from chaos.runs import Runs
from chaos.servers import Redis

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

pytestmark = [
    pytest.mark.timeout(300),
    # This process's own connections to a server that is gone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MINUTES = 300
#: Seconds; what runs while Redis is away for a moment must not outlive half of it.
LEASE = 20

#: What Debian's libfaketime does, which Redis's own memory allocator does not bear.
CLOCK = """
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *at) {
  int failed = syscall(SYS_clock_gettime, id, at);
  if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
    at->tv_sec += atol(getenv("CLOCK_AHEAD"));
  return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


class Clocked(Redis):
    """Redis with a clock of its own; started again it is the other server, which has its data.

    As a replica it has them with the moments at which they end, not with the seconds left.
    """

    ahead = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        source = folder / "clock.c"
        source.write_text(CLOCK)
        self._clock = str(folder / "clock.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self._clock, source], check=True)

    def _command(self):
        command, variables = super()._command()
        mine = {"LD_PRELOAD": self._clock, "CLOCK_AHEAD": str(self.ahead)}
        return command, variables | mine

    def fail_over(self, ahead: int) -> None:
        self.end(signal.SIGKILL)
        self.ahead = ahead
        self.start()


@pytest.fixture
def redis(tmp_path_factory):
    if not shutil.which("cc"):
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("There is no C compiler here: apt-get install gcc libc6-dev.")
    with Clocked(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def bench(redis, make_bench):
    limits = {
        "concurrency_key": {"running": 1},
        "method:acme.tasks.run_at_rate": {"rate": "2/m", "per": "argument:key"},
    }
    bench = make_bench(
        redis_queue=redis.url, frappe_jobs_lease=LEASE, frappe_jobs_limits=limits
    )  # fmt: skip
    tests_own, bench.redis_url = bench.redis_url, redis.url
    bench.use()
    with frappe.site("site1"):
        yield bench
    bench.remove()  # while its Redis is there
    bench.redis_url = tests_own


@pytest.mark.parametrize("ahead", [MINUTES, -MINUTES])
def test_what_runs_waits_or_is_limited_then_runs_once(bench, redis, ahead):
    runs, ledger = Runs(bench.path / "trace.jsonl"), runtime.current().ledger
    with bench.worker("--concurrency", "2"), bench.worker("--concurrency", "2"):
        wait_until(ledger.limits, 30)
        rated = [frappe.enqueue(tasks.run_at_rate, number=n, key="a") for n in range(4)]
        wait_until(lambda: [job.get_status() for job in rated].count("finished") == 2, 30)
        # Four processes: which of them begin first is chance.
        refused = [job for job in rated if job.get_status() != "finished"]
        running = frappe.enqueue(tasks.run, number=10, seconds=20)
        keyed = [
            frappe.enqueue(
                tasks.run_limited, number=n, key="one", most=1, seconds=8, concurrency_key="one"
            )
            for n in (11, 12)
        ]
        soon = frappe.enqueue_in(30, tasks.run, number=13)
        later = frappe.enqueue_in(3600, tasks.run, number=14)
        wait_until(lambda: running.get_status() == "started", 30)
        wait_until(lambda: "started" in [job.get_status() for job in keyed], 30)
        redis.fail_over(ahead)
        assert abs(ledger.now() - time.time() - ahead) < 5, "its clock is another one"
        assert frappe.enqueue(tasks.ping).wait(60) == "pong"
        for job in (running, *keyed):
            job.wait(60)
        if ahead < 0:  # what is due waits for as much longer, so far as the clock is not put right
            assert [job.get_status() for job in (soon, *refused)] == ["queued"] * 3
            redis.fail_over(0)
        soon.wait(60)
        for job in rated:
            job.wait(90)
        assert later.get_status() == "queued"
    begun = Counter(event["number"] for event in runs.begins())
    assert begun == dict.fromkeys((0, 1, 2, 3, 10, 11, 12, 13), 1)
    assert bench.marks("no room") == []
