"""A worker's name, and who holds a lease: two of them are never the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import slowness, wait_until

#: A container's beginnings: its own processes, numbered from 1, and its own host name.
CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--uts", "sh", "-c"]


@pytest.fixture(scope="module")
def _containers():
    found = subprocess.run([*CONTAINER, "hostname twin"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"No namespaces for a test's own processes here: {found.stderr}")


@contextmanager
def in_a_container(bench, log, *arguments):
    """A worker whose host name and whose processes' numbers are as in another container."""
    start = 'hostname twin && exec "$@"'
    command = [*CONTAINER, start, "sh", sys.executable, "-m", "frappe_jobs", "worker", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=bench.path, env=bench.environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: "ready\n" in log.read_text() or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def test_two_containers_of_one_host_name_do_not_run_a_job_at_once(on_redis, _containers, tmp_path):
    overlap_is_tried(on_redis, tmp_path, "--name", "twin")


def test_on_rabbitmq_both_are_let_in_and_do_not_either(on_rabbitmq, _containers, tmp_path):
    overlap_is_tried(on_rabbitmq, tmp_path)


def overlap_is_tried(bench, tmp_path, *arguments):
    """The first one runs a job; its message comes to the second one as well."""
    here, until = runtime.current(), tmp_path / "go on"
    names = ["one", "two"]
    with ExitStack() as workers:
        for name in names:
            log = tmp_path / name
            workers.enter_context(in_a_container(bench, log, "--queue", "default", *arguments))
        job = frappe.enqueue(tasks.hold, until=str(until))
        wait_until(lambda: bench.marks("hold"), 20)
        here.broker.send_again([here.ledger.read(job.message_id).message])
        logs = [tmp_path / name for name in names]
        wait_until(lambda: sum(log.read_text().count("] received") for log in logs) == 2, 20)
        wait_until(lambda: any("etry in" in log.read_text() for log in logs), 20)
        until.touch()
        assert job.wait(20) is None
    assert len(bench.marks("hold")) == 1
    assert job.attempt == 1


def test_a_name_that_cannot_be_one_is_refused(shared):
    for name in ("", "two words", "a@b@c", "ü", "a/b", "x" * 101, "%h"):
        done = shared.run("worker", "--name", name)
        assert (done.returncode, "Invalid value for '--name'" in done.stderr) == (2, True), name


def test_a_worker_has_the_name_that_was_asked_for(on_redis):
    with on_redis.worker("--queue", "default", "--name", "grete@here"):
        job = frappe.enqueue(tasks.ping)
        job.wait(20)
        answers = runtime.current().app.control.inspect(["grete@here"], timeout=1).ping()
        assert answers == {"grete@here": {"ok": "pong"}}
        record = runtime.current().ledger.read(job.message_id)
        assert record.worker.startswith("grete@here/")


def test_one_that_is_killed_leaves_nothing_of_its_name_in_redis(on_redis):
    name = f"{on_redis.id}@here"
    with on_redis.process("worker", "--queue", "default", "--name", name) as worker:
        worker.wait_ready()
        inspect = runtime.current().app.control.inspect([name], timeout=20 * slowness(), limit=1)
        assert inspect.ping() == {name: {"ok": "pong"}}
        # Each second kombu 5.7 writes the bindings of queues with an expiry anew.
        seen_at = time.monotonic()
        wait_until(lambda: time.monotonic() > seen_at + 2.5, 10)
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait(10)
    server = runtime.current().ledger.redis
    found = [one for key in server.scan_iter("_kombu.*") for one in members(server, key)]
    assert [one for one in found if name in one] == []


def members(server, key):
    kind = {"set": server.smembers, "zset": lambda key: server.zrange(key, 0, -1)}
    return kind.get(server.type(key), lambda key: [])(key)
