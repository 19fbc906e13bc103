"""Processes of a pool that went astray: each is replaced, and its job runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acme import processes, tasks
from conftest import Bench, Worker

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

#: Our app; a job that comes finds its process stopped.
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
        if not met and os.path.exists("now"):
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
    """Gives its log.  It stops the process from when there is a file ``now``."""
    with bench.worker_of_app("acme_strays", STOPPING.format(then=then)) as (process, log):
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("then", "said"),
    [("pass", "it does not begin the job that waits"), (CUT_OFF, "began a job that was forgotten")],
)
def test_it_is_killed_and_the_job_runs(on_each_broker, then, said):
    with worker(on_each_broker, then) as log:
        on_each_broker.path.joinpath("now").touch()
        job = frappe.enqueue(tasks.ping)
        assert job.wait(120) == "pong"
        wait_until(lambda: said in log.read_text(), 60)
        assert frappe.enqueue(tasks.ping).wait(60) == "pong"


@pytest.mark.parametrize("then", ["pass", CUT_OFF])
def test_what_a_finished_job_has_left_on_purpose_stays(on_redis, then):
    with worker(on_redis, then) as log:
        frappe.enqueue(processes.start_all, end="finish").wait(60)
        (started,) = on_redis.marks("all started")
        daemons = {pid for pid in started["pids"] if os.getsid(pid) == pid}
        try:
            on_redis.path.joinpath("now").touch()
            assert frappe.enqueue(tasks.ping).wait(120) == "pong"
            wait_until(lambda: "is killed" in log.read_text(), 60)
            assert daemons and {*filter(Worker.is_alive, daemons)} == daemons
        finally:
            for pid in filter(Worker.is_alive, started["pids"]):
                os.kill(pid, signal.SIGKILL)
