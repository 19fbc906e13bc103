"""Damaged and hostile messages: none is executed, each is counted, the worker goes on

Headers, properties, bodies, embeds, envelopes and control commands of a generator, on servers of
the test's own; those that are jobs by their form have failed.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from statistics import median

import pytest
from acme import tasks
from chaos.crew import Crew, children_of
from chaos.hostile import FAIL, NONE, OnRabbitMQ, OnRedis
from chaos.servers import RabbitMQ, Redis

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.celery.kept_aside import LINES, WINDOW
from frappe_jobs.ledger.kept_aside import KEPT_ASIDE
from frappe_jobs.testing import wait_until

pytestmark = [
    pytest.mark.timeout(3000),
    # This process's own connections to a server that is gone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: Sent before it is waited for that the worker has them all.
BATCH = 500

LOGGED = re.compile("it is kept aside|messages are kept aside; the last")


@pytest.fixture
def config(broker, tmp_path, request):
    """Servers of the test's own: a control command would meet the workers of all other tests."""
    settings = {"rq_failed_jobs_limit": 10**6, "frappe_jobs_lease": 20}
    with Redis(tmp_path / "redis", is_durable=False) as server:
        settings["redis_queue"] = server.url
        if broker == "redis":
            yield settings
            return
        request.getfixturevalue("needs_rabbitmq_server")
        with RabbitMQ(tmp_path / "rabbitmq") as node:
            yield settings | {"celery_broker_url": node.url}


def memory_of(worker):
    """Of it and its processes, in MiB."""
    pids = [worker.process.pid, *children_of(worker.process.pid)]
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(re.search(r"VmRSS:\s+(\d+)", one)[1]) for one in statuses) / 1024


class Attack:
    """Sends messages, and knows what must have become of them."""

    def __init__(self, scene, random, theirs):
        self._random, self._theirs = random, theirs
        self.touched = scene.bench.path / "touched"
        queue = f"{scene.bench.id}:default"
        amqp_url = scene.bench.amqp_url
        self._way = (
            OnRabbitMQ(amqp_url, queue)
            if amqp_url
            else OnRedis(scene.bench.config["redis_queue"], queue)
        )
        self.sent = Counter()
        self.jobs = 0

    def send(self):
        random, command = self._random, f"touch {self.touched}"
        chance = random.random()
        if chance < 0.05:
            self.sent["control commands"] += 1
            return self._way.send_control(random)
        if chance < 0.2:
            self.sent["envelopes"] += 1
            return self._way.send_raw(random, command)
        kind = random.choice(FAIL if chance < 0.22 else NONE)
        self.sent[kind.__name__] += 1
        self._way.send(random, kind(random, command, self._theirs))

    def close(self):
        self._way.close()

    def send_all(self, count):
        for _ in range(count):
            self.send()
        self._way.flush()


def ended():
    """How many have met their end: kept aside, or failed as jobs."""
    here = runtime.current()
    failed = here.ledger.redis.zcard(f"{here.settings.prefix}failed:default")
    return here.ledger.count_kept_aside() + failed


def test_none_is_executed_and_each_is_counted(scene, random, size, found):
    count = size(100_000, 500)
    with frappe.site("site2"):
        theirs = frappe.enqueue(tasks.ping, "long")
    attack = Attack(scene, random, theirs)
    memory = []
    began = time.monotonic()
    crew = Crew(scene.bench, "--queue", "default", size=1)
    with closing(attack), crew:
        (worker,) = crew._workers
        assert frappe.enqueue(tasks.ping).wait(60) == "pong"
        for start in range(0, count, BATCH):
            attack.send_all(min(BATCH, count - start))
            sent = attack.sent.total()
            wait_until(lambda: crew.assert_alive() or ended() >= sent, 60)  # noqa: B023
            memory.append(memory_of(worker))
        assert frappe.enqueue(tasks.ping).wait(60) == "pong"
        seconds = time.monotonic() - began
        crew.assert_alive()
        assert not attack.touched.exists()
        assert theirs.get_status() == "queued"
        logged = [line for line in crew.logs.splitlines() if LOGGED.search(line)]
    with Crew(scene.bench, "--queue", "long", size=1):
        assert theirs.wait(60) == "pong"
    kept = runtime.current().ledger.kept_aside()
    # Between two looks: while a message is unpacked it takes its limit, and gives it back.
    grown = median(memory[len(memory) // 2 :]) - memory[len(memory) // 10]
    found(
        f"{count:,} messages of {len(attack.sent)} kinds in {seconds:.0f} s: worker alive, 0 "
        f"executed, {ended():,} counted, {len(kept):,} kept aside in {len(logged):,} lines; memory "
        f"grew by {grown:.0f} MiB; the other site's job ran"
    )
    assert ended() == attack.sent.total() == count
    assert len(kept) == min(KEPT_ASIDE, runtime.current().ledger.count_kept_aside())
    # Two windows' lines each time: those of the worker, and of its process.
    assert 0 < len(logged) <= 2 * (LINES + 1) * (seconds / WINDOW + 1), "\n".join(logged)
    assert grown < 30, memory
