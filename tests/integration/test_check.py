"""Health probes: whether a worker or a scheduler on this machine goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest
from acme import tasks
from chaos.servers import Redis
from conftest import opened
from proxy import Proxy

import frappe_jobs as frappe
from frappe_jobs.alive.signs import FOLDER, STILL
from frappe_jobs.testing import wait_until

COMMAND = Path(sys.executable).with_name("frappe-jobs")


@pytest.fixture
def bench(make_bench):
    with opened(make_bench()) as bench:
        yield bench


def check(bench, *words: str) -> tuple[int, str]:
    done = bench.run("check", *words)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1, done
    return done.returncode, done.stdout.strip()


def wait_for(bench, words, status: int, pattern: str, seconds: float = 2 * STILL) -> None:
    """Until the probe says so."""
    said = []

    def says() -> bool:
        said.append(check(bench, *words))
        return said[-1][0] == status and re.search(pattern, said[-1][1]) is not None

    try:
        wait_until(says, seconds, interval=0.2)
    except TimeoutError as error:
        raise AssertionError(said[-1]) from error


class TestAWorker:
    def test_that_takes_jobs_passes_until_it_ends(self, bench):
        assert check(bench, "worker") == (1, f"No worker runs on {os.uname().nodename}.")
        with bench.worker("--queue", "short,default"):
            wait_for(bench, ["worker"], 0, r"^short\+default\..* serves short, default; last sign")
            wait_for(bench, ["worker", "--queue", "default"], 0, "serves")
            _, said = check(bench, "worker", "--queue", "default,long")
            assert said == f"No worker runs on {os.uname().nodename} for long."
            assert check(bench, "worker", "--queue", "long")[0] == 1
        assert check(bench, "worker")[0] == 1
        assert list((bench.sites / FOLDER).iterdir()) == []

    def test_that_was_killed_is_gone(self, bench):
        with bench.worker() as worker:
            wait_for(bench, ["worker"], 0, "serves")
            os.kill(worker.process.pid, signal.SIGKILL)
            wait_for(bench, ["worker"], 1, "^No worker runs", 10)

    def test_that_finishes_its_jobs_passes(self, bench):
        hold = bench.path / "hold"
        with bench.worker() as worker:
            job = frappe.enqueue(tasks.hold, until=str(hold))
            wait_until(lambda: job.get_status() == "started", 10)
            worker.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "told to stop" in worker.log, 10)
            wait_for(bench, ["worker"], 0, "serves")
            hold.touch()

    def test_whose_redis_is_away_says_so(self, make_bench, tmp_path):
        with Redis(tmp_path / "server") as server:
            bench = make_bench(redis_queue=server.url)
            with bench.worker(), bench.worker_of("schedule"):
                wait_for(bench, ["worker"], 0, "serves")
                wait_for(bench, ["scheduler"], 0, "leads")
                server.end(signal.SIGKILL)
                wait_for(bench, ["worker"], 1, "out of reach")
                wait_for(bench, ["scheduler"], 1, "out of reach")
                server.start()
                wait_for(bench, ["worker"], 0, "serves")
                wait_for(bench, ["scheduler"], 0, "leads")

    def test_whose_rabbitmq_is_away_says_so(self, make_bench, amqp_url):
        with Proxy(amqp_url) as proxy:
            bench = make_bench(celery_broker_url=proxy.url)
            bench.amqp_url = amqp_url  # what is left is removed when the proxy is gone
            with bench.worker():
                wait_for(bench, ["worker"], 0, "serves")
                proxy.refuse()
                wait_for(bench, ["worker"], 1, "takes no jobs, as its broker is out of reach")
                proxy.restore()
                wait_for(bench, ["worker"], 0, "serves")

    def test_whose_folder_cannot_be_written_works_and_says_so(self, bench):
        (bench.sites / FOLDER).write_text("in the way")
        with bench.worker() as worker:
            job = frappe.enqueue(tasks.ping)
            assert job.wait(20) == "pong"
            wait_until(lambda: "health probes do not see this worker: " in worker.log, 10)
            assert worker.log.count("health probes do not see") == 1
        assert check(bench, "worker")[0] == 1


class TestAScheduler:
    def test_leads_or_stands_by(self, bench):
        assert check(bench, "scheduler") == (1, f"No scheduler runs on {os.uname().nodename}.")
        with bench.worker_of("schedule"):
            wait_for(bench, ["scheduler"], 0, " leads; last sign of life")
            with bench.worker_of("schedule"):
                wait_for(bench, ["scheduler"], 0, "and 1 more")
        assert check(bench, "scheduler")[0] == 1


def test_who_is_frozen_stands_still_and_who_is_busy_does_not(bench):
    """All at once, as it takes a while."""
    busy = {"default": bench.worker("--queue", "default"),
            "long": bench.worker("--queue", "long", "--pool", "solo")}  # fmt: skip
    with (
        bench.worker("--queue", "short") as frozen, bench.worker("--queue", "short"),
        bench.worker_of("schedule") as scheduler, busy["default"], busy["long"],
    ):  # fmt: skip
        wait_for(bench, ["worker", "--queue", "short"], 0, "and 1 more")
        wait_for(bench, ["scheduler"], 0, "leads")
        still = (frozen.process.pid, scheduler.process.pid)
        for pid in still:
            os.kill(pid, signal.SIGSTOP)
        try:
            jobs = [frappe.enqueue(tasks.work, queue=queue, seconds=STILL + 2) for queue in busy]
            wait_until(lambda: all(job.get_status() == "started" for job in jobs), 20)
            began = time.monotonic()
            while time.monotonic() - began < STILL:
                for queue in busy:
                    assert check(bench, "worker", "--queue", queue)[0] == 0
                Event().wait(1)
            assert {job.get_status() for job in jobs} == {"started"}
            wait_for(
                bench, ["worker", "--queue", "short"], 1, "stands still: no sign of life for 1. s"
            )
            wait_for(bench, ["scheduler"], 1, "stands still: no sign of life for")
        finally:
            for pid in still:
                os.kill(pid, signal.SIGCONT)
        wait_for(bench, ["worker", "--queue", "short"], 0, "serves")
        wait_for(bench, ["scheduler"], 0, "leads")


def test_the_probe_imports_no_celery_and_no_redis(bench):
    code = (
        "import sys; from frappe_jobs.cli import main\n"
        "try: main(['check', 'worker'])\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=bench.environment, capture_output=True, text=True
    )
    loaded = {*done.stdout.splitlines()[-1].split()}
    assert not loaded & {"celery", "kombu", "redis", "redbeat", "sqlalchemy", "croniter"}


def test_the_probe_costs_little(bench):
    """Half a second is allowed; of processor time, as others may be at work here."""
    before = os.times()
    for _ in range(3):
        subprocess.run([COMMAND, "check", "worker"], env=bench.environment, capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    assert spent / 3 < 0.5
