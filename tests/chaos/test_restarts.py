"""The broker restarted under load: Redis that always syncs its append-only file, a RabbitMQ node

Killed or told to end, and away for a moment; nothing is lost, no job runs twice at a time.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from itertools import islice
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
#: Seconds; half of it outlasts the absence, else what runs then is rightly killed and begun again.
LEASE = 8


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


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a server of that kind, once: a node of RabbitMQ takes long."""
    with ExitStack() as stack:
        yield cache(lambda kind: stack.enter_context(kind(tmp_path_factory.mktemp("server"))))


@pytest.fixture
def server(broker, start, request):
    if broker == "rabbitmq":
        request.getfixturevalue("needs_rabbitmq_server")
    return start(Redis if broker == "redis" else RabbitMQ)


@pytest.fixture
def config(broker, server) -> dict[str, Any]:
    url = {"redis_queue" if broker == "redis" else "celery_broker_url": server.url}
    return url | {"frappe_jobs_lease": LEASE}


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


def test_what_transactions_enqueue_is_sent_on_the_brokers_return(scene, server, size, found):
    """While it is away they commit, and nothing is raised; each job runs once."""
    transactions = size(1_000, 60)
    with frappe.site("site1"):
        tasks.install()
    todo = iter(range(transactions))
    with Crew(scene.bench, "--concurrency", "2", "--quiet", size=1) as crew:
        commit(islice(todo, transactions // 3))
        server.end(signal.SIGKILL)
        away = commit(islice(todo, transactions // 3), seconds=LONGEST_ABSENCE)
        server.start()
        returned = time.time()
        commit(todo)
        wait_until(lambda: {*range(transactions)} <= numbers(scene), 60)
        scene.wait_for_all(60, crew.assert_alive)
    late = max(one["at"] for one in scene.runs.begins() if one["number"] in away) - returned
    twice = scene.runs.begun - transactions
    found(
        f"{transactions:,} transactions, {len(away)} of them committed while it was away, and "
        f"nothing was raised: 0 jobs lost, {twice} run twice; the last of those began "
        f"{late:.1f} s after its return"
    )
    assert (twice, late < WANTED) == (0, True)


def commit(todo, seconds=60.0):
    """These transactions, as far as they go in these seconds; gives their numbers."""
    end, done = time.monotonic() + seconds, []
    for number in todo:
        with frappe.site("site1"):
            frappe.new_doc("Account", name=str(number)).insert()
            frappe.enqueue(tasks.run, number=number, enqueue_after_commit=True)
        done.append(number)
        if time.monotonic() > end:
            break
    return done


def numbers(scene):
    return {one["number"] for one in scene.runs.begins()}


def wait_for_more(scene, count):
    wanted = scene.runs.begun + count
    wait_until(lambda: scene.runs.begun >= wanted, 60)


def seconds_until_work(scene):
    """From now until a job begins."""
    now = time.time()

    def first():
        return next((one for one in scene.runs.begins() if one["at"] > now), None)

    return wait_until(first, 60)["at"] - now
