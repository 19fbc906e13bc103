"""A job longer than RabbitMQ's consumer_timeout, on a node where that is short

RabbitMQ closes the channel that holds the message, and hands the message to a second worker.
"""

from __future__ import annotations

import pytest
from acme import tasks
from chaos.crew import Crew
from chaos.servers import RabbitMQ

import frappe_jobs as frappe

pytestmark = [
    pytest.mark.timeout(120),
    # This process's own connections to a server that is gone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: Milliseconds, as RabbitMQ takes them; how often it looks.
TIMEOUT, TICK = 2_000, 500


@pytest.fixture(params=["rabbitmq"])
def broker(request):
    return request.param


@pytest.fixture
def config(tmp_path, needs_rabbitmq_server):
    options = {"consumer_timeout": TIMEOUT, "channel_tick_interval": TICK}
    with RabbitMQ(tmp_path / "server", **options) as server:
        yield {"celery_broker_url": server.url}


def test_it_runs_once_though_the_channel_is_closed(scene, found):
    with Crew(scene.bench, "--queue", "default") as crew:
        job = frappe.enqueue(tasks.run, number=0, seconds=2.5 * TIMEOUT / 1000)
        assert job.wait(30) == 0
        assert frappe.enqueue(tasks.ping).wait(30) == "pong"
        crew.assert_alive()
        said = crew.logs
    verdict = scene.judge([job.id])
    found(f"a job of {2.5 * TIMEOUT / 1000:g} s, consumer_timeout {TIMEOUT / 1000:g} s: {verdict}")
    assert "PRECONDITION_FAILED" in said
    assert (verdict.faults, verdict.runs) == ([], 1)
