"""Processes of a pool that went astray: each is replaced, and its job runs."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acme import tasks
from conftest import Bench

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

#: Our app; the first job that comes finds its process stopped.
STOPPING = """
    import os, signal, threading
    from celery.signals import task_received, worker_ready
    from frappe_jobs.celery import celery as app
    from frappe_jobs.celery import strays

    strays.INTERVAL = 0.5
    consumers, met = [], []

    @worker_ready.connect
    def note(sender, **_):
        consumers.append(sender)

    @task_received.connect
    def stop(**_):
        if not met:
            [process] = consumers[0].pool._pool._pool
            met.append(process.pid)
            os.kill(process.pid, signal.SIGSTOP)
            {then}
"""
#: The connection is lost as the job lies in the process's pipe; then the process goes on.
CUT_OFF = """consumers[0].timer.call_after(0.2, fail)
            threading.Timer(1, os.kill, (met[0], signal.SIGCONT)).start()

    def fail():
        raise consumers[0].connection_errors[0]("cut off")
"""


@contextmanager
def worker(bench: Bench, then: str) -> Iterator[Path]:
    """Gives its log."""
    (bench.path / "acme_strays.py").write_text(textwrap.dedent(STOPPING.format(then=then)))
    bench.variables["PYTHONPATH"] = str(bench.path)
    log = bench.path / "strays.log"
    with open(os.devnull) as nothing, log.open("w") as out:
        process = bench.forker.start(
            ["-A", "acme_strays", "worker", "-c", "1", "-Q", f"{bench.id}:default"],
            bench.path, bench.environment, nothing.fileno(), out.fileno(), out.fileno(),
            module="celery",
        )  # fmt: skip
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("then", "said"),
    [("pass", "it does not begin the job that waits"), (CUT_OFF, "began a job that was forgotten")],
)
def test_it_is_killed_and_the_job_runs(on_each_broker, then, said):
    with worker(on_each_broker, then) as log:
        job = frappe.enqueue(tasks.ping)
        assert job.wait(120) == "pong"
        wait_until(lambda: said in log.read_text(), 60)
        assert frappe.enqueue(tasks.ping).wait(60) == "pong"
