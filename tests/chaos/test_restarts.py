"""The broker restarted under load: Redis that always syncs its append-only file, a RabbitMQ node

Killed or told to end, and away for a moment; nothing is lost, no job runs twice at a time.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import AbstractContextManager
from random import Random
from typing import Any

import pytest
from acme import tasks
from chaos.crew import Crew
from chaos.servers import RabbitMQ, Redis

import frappe_jobs as frappe
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.testing import wait_until

pytestmark = [
    pytest.mark.timeout(600),
    # This process's own connections to a server that is gone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: Seconds at most until work goes on after the broker's return.
WANTED = 10
LONGEST_JOB = 0.1
LONGEST_ABSENCE = 3.0


class Load(AbstractContextManager["Load"]):
    """Enqueues jobs while the block runs, each again until the broker has taken it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.sent: list[str] = []
        self.refused = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def _send(self) -> None:
        with frappe.site("site1"):
            while not self._over.wait(0.02):
                number = len(self.sent)
                seconds = self._random.uniform(0, LONGEST_JOB)
                try:
                    frappe.enqueue(tasks.run, job_id=f"{number}", number=number, seconds=seconds)
                except BrokerUnavailable:
                    self.refused += 1
                else:
                    self.sent.append(f"{number}")

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def server(broker, tmp_path, request):
    if broker == "rabbitmq":
        request.getfixturevalue("needs_rabbitmq_server")
    with (Redis if broker == "redis" else RabbitMQ)(tmp_path / "server") as server:
        yield server


@pytest.fixture
def config(broker, server) -> dict[str, Any]:
    return {"redis_queue" if broker == "redis" else "celery_broker_url": server.url}


def test_nothing_is_lost_and_work_goes_on(scene, server, random, size, found):
    restarts = size(5, 1)
    absences: list[float] = []
    with Crew(scene.bench, "--concurrency", "2", "--quiet") as crew:
        with Load(Random(random.random())) as load:
            for _ in range(restarts):
                wait_for_more(scene, random.randrange(20, 200 if restarts > 1 else 60))
                server.end(random.choice((signal.SIGKILL, signal.SIGTERM)))
                threading.Event().wait(random.uniform(0, LONGEST_ABSENCE))
                server.start()
                absences.append(seconds_until_work(scene))
        sent = load.sent
        scene.wait_for_all(60, crew.assert_alive)
        healed = crew.sent_again
        verdict = scene.judge(sent)
    found(
        f"{restarts} restarts, {len(sent):,} jobs sent meanwhile ({load.refused:,} refused calls "
        f"were made again): {verdict}; {healed} messages were sent "
        f"again by the sweep; work went on {max(absences):.1f} s after the broker's "
        f"return at the latest"
    )
    assert verdict.faults == []
    assert max(absences) < WANTED


def wait_for_more(scene, count):
    wanted = scene.runs.begun + count
    wait_until(lambda: scene.runs.begun >= wanted, 60)


def seconds_until_work(scene):
    """From now until a job begins."""
    now = time.time()

    def first():
        return next((one for one in scene.runs.begins() if one["at"] > now), None)

    return wait_until(first, 60)["at"] - now
