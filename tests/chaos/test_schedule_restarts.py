"""The servers under a running schedule: Redis flushed, the broker killed and back

No due time that has run runs again, none that was queued is lost.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter

import pytest
from chaos.clock import (
    INTERVAL,
    JOBS,
    Schedulers,
    entries,
    forget,
    logs,
    on_brokers,
    queued,
    runs,
    sent,
    wait_for_more,
)
from chaos.crew import Crew
from chaos.servers import RabbitMQ, Redis

from frappe_jobs.testing import wait_until

PROCESSES = 2

pytestmark = [
    pytest.mark.timeout(900),
    # This process's own connections to a server that is gone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@on_brokers
def test_redis_is_flushed_while_it_runs(schedule, random, size, found):
    flushes = size(10, 1)
    backs = []
    with Crew(schedule.bench, "--concurrency", str(PROCESSES), "--quiet", size=1) as crew:
        with Schedulers(schedule.bench, size=2) as schedulers:
            for _ in range(flushes):
                wait_for_more(schedule, 20, 30)
                threading.Event().wait(random.uniform(0, 1))
                forget(schedule.bench)
                backs.append(seconds(lambda: wait_until(lambda: len(entries()) == JOBS, 60)))
            wait_for_more(schedule, JOBS)
            schedulers.stop()
        schedule.wait_for_all(60, crew.assert_alive)
    # What was queued is due at its job's last second before that.
    slots = Counter((one["job"], slot(one)) for one in runs(schedule))
    twice = sum(count - 1 for count in slots.values())
    found(
        f"{flushes} flushes of Redis while {JOBS} jobs are due every {INTERVAL} s: the schedule "
        f"was back after {max(backs):.1f} s at the latest; {len(runs(schedule)):,} runs, {twice} "
        "of a due time that had run"
    )
    assert twice == 0


def slot(run) -> int:
    return int((run["enqueued_at"] - run["job"] % INTERVAL) // INTERVAL)


def seconds(call) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


class TestTheServerIsAway:
    """Redis, or RabbitMQ with the records in a Redis that stays."""

    @pytest.fixture
    def server(self, broker, tmp_path, request):
        if broker == "rabbitmq":
            request.getfixturevalue("needs_rabbitmq_server")
        with (Redis if broker == "redis" else RabbitMQ)(tmp_path / "server") as server:
            yield server

    @pytest.fixture
    def config(self, broker, server):
        key = "redis_queue" if broker == "redis" else "celery_broker_url"
        return {key: server.url}

    def test_and_comes_back(self, schedule, server, random, size, found):
        restarts = size(5, 1)
        late = []
        with Crew(schedule.bench, "--concurrency", str(PROCESSES), "--quiet", size=1) as crew:
            with Schedulers(schedule.bench, size=2) as schedulers:
                for _ in range(restarts):
                    wait_for_more(schedule, 20)
                    server.end(random.choice((signal.SIGKILL, signal.SIGTERM)))
                    threading.Event().wait(random.uniform(1, 3))
                    server.start()
                    late.append(seconds(lambda: wait_for_more(schedule, 0)))
                wait_until(lambda: min(entries().values()) > time.time(), 30)
                schedulers.stop()
            schedule.wait_for_all(90, crew.assert_alive)
        # Whose process ends for want of its lease, after its work, runs again: at least once.
        again, unrun = logs() - queued(), queued() - logs()
        twice = sent() - queued()
        found(
            f"{restarts} restarts while {JOBS} jobs are due every {INTERVAL} s: "
            f"{queued().total():,} due times queued, {twice.total()} twice; {unrun.total()} never "
            f"ran, {again.total()} ran again as their process was ended with its lease; work went "
            f"on {max(late):.1f} s after its return at the latest"
        )
        assert (unrun.total(), twice.total()) == (0, 0)
        assert again.total() <= 2 * restarts * PROCESSES
