"""RabbitMQ cut off: the workers are told, and the server keeps what it had for them

Queues and consumers of connections that are gone stay there until it finds out by itself.  Of two
workers one is busy and one is idle.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from acme import tasks
from chaos.crew import Crew
from proxy import Proxy

import frappe_jobs as frappe
from frappe_jobs.errors import BrokerError
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(600)

#: Seconds at most until work goes on after the network's return.
WANTED = 10


@pytest.fixture(params=["rabbitmq"])
def broker(request):
    return request.param


@pytest.fixture
def proxy(amqp_url) -> Iterator[Proxy]:
    with Proxy(amqp_url) as proxy:
        yield proxy


@pytest.fixture
def config(proxy, size) -> dict[str, Any]:
    # The server finds out after two of these; until then it hands jobs to consumers that are gone.
    return {"celery_broker_url": f"{proxy.url}?heartbeat={size(10, 2)}", "frappe_jobs_lease": 60}


def test_work_goes_on_when_it_is_back(scene, proxy, size, found):
    seconds = size(90, 3)
    until = scene.bench.path / "until"
    default = Crew(scene.bench, "--queue", "default", "--concurrency", "2", size=1)
    with default as busy, Crew(scene.bench, "--queue", "short", size=1) as idle:
        held = [frappe.enqueue(tasks.hold, until=str(until)) for _ in range(2)]
        wait_until(lambda: len(scene.bench.marks("hold")) == 2, 60)
        waiting = [frappe.enqueue(tasks.run, number=number) for number in range(20)]
        proxy.strand()
        until.touch()
        wait_until(lambda: all(job.get_status() == "finished" for job in held), 60)
        threading.Event().wait(seconds)
        assert scene.runs.begun == 0
        proxy.restore()
        back = time.time()
        first = wait_until(scene.runs.begins, 60)[0]["at"] - back
        late = [sent_to_the_idle(number) for number in range(20, 25)]
        scene.wait_for_all(300, lambda: (busy.assert_alive(), idle.assert_alive()))
        last = max(one["at"] for one in scene.runs.begins()) - back
        said = busy.logs + idle.logs
        verdict = scene.judge([job.id for job in waiting + late])
        found(
            f"a cut of {seconds} s: {verdict}; the busy worker went on {first:.1f} s after the "
            f"return, and the last job began after {last:.1f} s"
        )
        assert verdict.faults == []
        assert len(scene.bench.marks("hold")) == 2
        assert "Traceback" not in said, said
        assert max(first, last) < WANTED


def sent_to_the_idle(number):
    def sent():
        try:
            return frappe.enqueue(tasks.run, "short", number=number)
        except BrokerError:
            return None

    return wait_until(sent, 60)
