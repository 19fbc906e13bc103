"""What docs/why.md says of plain Celery and of RQ, run on them as they are if nothing is set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from chaos.servers import Redis

from frappe_jobs.testing import slowness, wait_until

APP = """
import time
from celery import Celery
app = Celery("plain", broker={url!r}, backend={url!r})

@app.task
def hold(until):
    open(until + ".begun", "w").close()
    import os
    while not os.path.exists(until):
        time.sleep(0.05)

@app.task(acks_late=True)
def hold_late(until):
    hold(until)

@app.task
def fail(order):
    raise ValueError(order)
"""
RQ_APP = """
import os, time
def hold(until):
    open(until + ".begun", "w").close()
    while not os.path.exists(until):
        time.sleep(0.05)
"""


class Plain:
    """A folder with a module of tasks, and a Redis that has nothing else."""

    def __init__(self, folder: Path, server: Redis) -> None:
        self.folder, self.server = folder, server
        (folder / "plain.py").write_text(APP.format(url=server.url))
        (folder / "plain_rq.py").write_text(RQ_APP)
        self.app = Celery("plain", broker=server.url, backend=server.url, set_as_current=False)

    @contextmanager
    def running(self, *command: str, pings: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": str(self.folder)}, start_new_session=True,
            )  # fmt: skip
        try:
            if pings:
                wait_until(lambda: self.app.control.ping(timeout=0.5), 30)
            yield process
        finally:
            self.kill(process)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def worker(self) -> Any:
        return self.running("celery", "-A", "plain", "worker", "-c", "1")

    def ask(self, question: str) -> list[Any]:
        """What the only worker says."""
        inspect = self.app.control.inspect(timeout=2 * slowness())
        [said] = (getattr(inspect, question)() or {"nobody": []}).values()
        return list(said)

    def send(self, name: str, *arguments: str, **options: Any) -> Any:
        return self.app.send_task(f"plain.{name}", arguments, **options)

    def begun(self, name: str) -> str:
        """A file's path, which a task waits for."""
        return str(self.folder / name)

    def wait_begun(self, until: str) -> None:
        wait_until(Path(f"{until}.begun").exists, 30)

    @property
    def waiting(self) -> int:
        with self.app.connection_for_read() as connection:
            return int(connection.default_channel.client.llen("celery"))

    def held(self) -> int:
        """Messages that would come back once their visibility timeout is over."""
        with self.app.connection_for_read() as connection:
            return int(connection.default_channel.client.hlen("unacked"))


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Plain]:
    with Redis(tmp_path / "redis") as server:
        yield Plain(tmp_path, server)


def test_celery_takes_four_messages_ahead_for_each_process(plain: Plain) -> None:
    with plain.worker():
        until = plain.begun("go on")
        for _ in range(10):
            plain.send("hold", until)
        plain.wait_begun(until)
        wait_until(lambda: plain.waiting == 10 - 1 - 4, 10)
        assert len(plain.ask("reserved")) == 4


def test_a_task_for_later_is_in_a_workers_memory(plain: Plain) -> None:
    with plain.worker():
        plain.send("hold", plain.begun("never"), countdown=600)
        wait_until(lambda: plain.ask("scheduled"), 20)
        assert plain.waiting == 0


@pytest.mark.parametrize(("task", "left"), [("hold", 0), ("hold_late", 1)])
def test_with_a_killed_worker_a_task_is_lost_or_hidden_for_an_hour(
    plain: Plain, task: str, left: int
) -> None:
    until = plain.begun("never")
    with plain.worker() as worker:
        plain.send(task, until)
        plain.wait_begun(until)
        wait_until(lambda: plain.held() == left, 10)  # acknowledged, where that is done before
        plain.kill(worker)
    assert (plain.waiting, plain.held()) == (0, left)
    with plain.app.connection_for_read() as connection:
        assert connection.default_channel.visibility_timeout == 3600


def test_a_worker_leaves_a_queue_until_it_restarts(plain: Plain) -> None:
    def queues() -> list[str]:
        return [one["name"] for one in plain.ask("active_queues")]

    with plain.worker():
        plain.app.control.cancel_consumer("celery")
        wait_until(lambda: queues() == [], 10)
    with plain.worker():
        assert queues() == ["celery"]


def test_json_alone_travels_and_of_a_failure_the_error_is_kept(plain: Plain) -> None:
    assert (plain.app.conf.task_serializer, [*plain.app.conf.accept_content]) == ("json", ["json"])
    with plain.worker():
        failed = plain.send("fail", "ORD-7")
        with pytest.raises(ValueError, match="ORD-7"):
            failed.get(timeout=20 * slowness())
        assert (failed.args, failed.kwargs) == (None, None)  # what it was called with is gone


def test_rq_takes_nothing_ahead_and_sends_pickles(plain: Plain) -> None:
    from rq import Queue
    from rq.serializers import DefaultSerializer

    queue = Queue(connection=_connected(plain))
    until = plain.begun("go on")
    for _ in range(3):
        queue.enqueue("plain_rq.hold", until)
    with plain.running(
        "rq.cli", "worker", "-w", "rq.SimpleWorker", "--url", plain.server.url, pings=False
    ):
        plain.wait_begun(until)
        assert len(queue) == 2
    assert "pickle" in DefaultSerializer.loads.__module__ + repr(DefaultSerializer.dumps)


def _connected(plain: Plain) -> Any:
    import redis

    return redis.Redis.from_url(plain.server.url)
