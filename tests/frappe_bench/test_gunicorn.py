"""Workers and the scheduler as companions of gunicorn: its master forks and watches them.

By the command and the settings of a bench that runs them so.  The manager of such companions is in
Frappe's own gunicorn only; without it, or without Frappe's functions for it, these are skipped.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from frappe_bench.bench import EMPTY, WAIT, FrappeBench, Process, read_notes

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(240)

#: As bench writes them, but for the seconds until what has died is started again.
SETTINGS = """
import os
os.environ.setdefault("FRAPPE_GUNICORN_COMPANION", "1")
wsgi_app = "frappe.app:application"
preload_app = True
bind = "127.0.0.1:0"
workers = 1
timeout = 120
graceful_timeout = 30
companion_control_socket = {folder!r} + "/control"
companion_manager_shutdown_buffer = 15
companion_restart_delay = 1
companion_workers = {companions!r}

def on_starting(server):
    import frappe.gunicorn_companion as companion
    companion.warmup()

def when_ready(server):
    from frappe._optimizations import freeze_gc
    freeze_gc()
"""
#: In the environment of all that one gunicorn has started.
MARK = "STARTED_BY_GUNICORN"
#: Who leads the schedule.
LEADER = (
    "from frappe_jobs.frappe_bench.host.session import runtime\n"
    "answer = runtime().timetable.leader()"
)
JOBS = (
    "from frappe.utils import background_jobs as jobs\n"
    "ended = lambda job: wait(jobs.get_queue('short').fetch_job(job))\n"
)
#: Who serves the queue short, as RQ's face tells it.
WORKERS = JOBS + "answer = [one.pid for one in jobs.get_workers(jobs.get_queue('short'))]"


class Gunicorn:
    """gunicorn's master, with companions."""

    def __init__(self, bench: FrappeBench, folder: Path, companions: dict[str, dict[str, Any]]):
        self.bench, self.folder = bench, folder
        self.mark = uuid.uuid4().hex
        given = [
            {"name": name, "cwd": str(bench.sites), "stop_timeout": 60, "stderr": "stdout",
             "stdout": str(folder / f"{name}.log"), **companion}
            for name, companion in companions.items()
        ]  # fmt: skip
        settings = folder / "gunicorn.conf.py"
        settings.write_text(SETTINGS.format(folder=str(folder), companions=given))
        self.process = Process(
            bench, "-c", str(settings), "frappe.app:application",
            program="gunicorn", **{MARK: self.mark}, FRAPPE_JOBS_LEASE="4",
        )  # fmt: skip

    @property
    def log(self) -> str:
        """All that its processes have said."""
        return "\n".join(
            [self.process.log, *(one.read_text() for one in self.folder.glob("*.log"))]
        )

    def address(self) -> str:
        """Where its web worker answers."""
        found = wait_until(lambda: re.search(r"Listening at: (\S+)", self.process.log), 60)
        return found[1]

    def ask(self, method: str) -> Any:
        """A request to the site."""
        request = urllib.request.Request(
            f"{self.address()}/api/method/{method}", headers={"Host": self.bench.site}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["message"]

    def control(self, *words: str) -> dict[str, Any]:
        """A command to the manager of the companions."""
        program = self.bench.python.with_name("gunicorn-companion")
        done = subprocess.run(
            [program, "-s", self.folder / "control", *words], text=True, capture_output=True,
            env=self.bench.environment, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr + self.log
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def pid(self, name: str) -> int:
        """Of that companion; 0 while it is not running."""
        told = self.control("status")["companions"]
        one = next(one for one in told if one["name"] == name)
        return int(one["pid"]) if one["state"] == "RUNNING" else 0

    def alive(self) -> set[int]:
        """All that runs of what it has started, also what has lost its parent."""
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes():
                    found.add(int(path.name))
            except OSError:  # it has ended
                continue
        return found

    def end(self) -> None:
        """Tell its master to stop; nothing of what it has started may be left then."""
        self.process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: self.process.process.poll() is not None, 60)
        assert not self.alive(), self.log
        assert self.process.process.returncode == 0, self.log


@contextmanager
def gunicorn(bench: FrappeBench, folder: Path, **companions: dict[str, Any]) -> Iterator[Gunicorn]:
    found = bench.call(
        "from importlib.util import find_spec\n"
        "answer = [name for name in ('gunicorn.companion', 'frappe.gunicorn_companion') "
        "if not find_spec(name)]"
    )
    if found:
        pytest.skip(f"This bench has no {' and no '.join(found)}.")
    bench.call(EMPTY)
    started = Gunicorn(bench, folder, companions)
    try:
        wait_until((folder / "control").exists, 60)
        wait_until(lambda: all(started.pid(name) for name in companions), 60)
        yield started
    finally:
        started.process.stop()
        for pid in started.alive():
            os.kill(pid, signal.SIGKILL)


def companion(target: str, **variables: str) -> dict[str, Any]:
    return {"target": f"frappe.gunicorn_companion:{target}", "env": variables}


def look(started: Gunicorn) -> Any:
    """What a job saw that a web request has enqueued."""
    job = started.ask("probe.tasks.enqueue_look")
    return started.bench.call(WAIT + JOBS + f"answer = ended({job!r}).result")


def leads(started: Gunicorn) -> bool:
    """Whether the companion that is the scheduler now leads."""
    leader = str(started.bench.call(LEADER))
    return leader.split("/")[1:2] == [str(started.pid("scheduler"))]


class Waiting:
    """A job that has written a row, and waits for a word before it ends."""

    def __init__(self, bench: FrappeBench, notes: Path) -> None:
        self.bench, self.notes, self.text = bench, notes, uuid.uuid4().hex
        self.job = bench.call(
            f"answer = frappe.enqueue('probe.tasks.write_and_wait', text={self.text!r}, "
            f"path={str(notes)!r}, queue='short').id"
        )
        self.runs(1)

    def runs(self, number: int) -> list[int]:
        """The processes that it ran in, as soon as there are so many."""
        wait_until(lambda: len(self._pids()) >= number, 60)
        return self._pids()

    def _pids(self) -> list[int]:
        return [note["pid"] for note in read_notes(self.notes) if "pid" in note]

    def end(self) -> list[Any]:
        """Say the word; gives its status and how often it has written its row."""
        with self.notes.open("a") as file:
            file.write('["go on"]\n')
        answer: list[Any] = self.bench.call(
            f"{WAIT}{JOBS}status = ended({self.job!r}).get_status()\n"
            f"answer = [status, frappe.db.count('ToDo', {{'description': {self.text!r}}})]"
        )
        return answer


WORKER = companion("run_worker", FRAPPE_COMPANION_QUEUE="short,default")
SCHEDULER = companion("run_scheduler")


def test_a_worker_and_the_scheduler_are_ours_and_stop(bench: FrappeBench, tmp_path: Path) -> None:
    """As bench has them: each a companion of its own."""
    with gunicorn(bench, tmp_path, scheduler=SCHEDULER, worker=WORKER) as started:
        assert look(started)["site"] == bench.site
        assert bench.call(WORKERS) == [started.pid("worker")]
        wait_until(lambda: leads(started), 60)
        started.end()
    assert bench.call(WORKERS) == []
    assert bench.call(LEADER) is None


def test_a_pool_keeps_the_scheduler_and_stops(bench: FrappeBench, tmp_path: Path) -> None:
    """As pilot has it: one companion for all queues, and the scheduler in it."""
    pool = companion(
        "run_worker_pool", FRAPPE_COMPANION_QUEUE="default,short", FRAPPE_COMPANION_NUM_WORKERS="2"
    )
    with gunicorn(bench, tmp_path, pool=pool) as started:
        assert look(started)["site"] == bench.site
        wait_until(lambda: bench.call(LEADER), 60)
        started.end()
    assert bench.call(LEADER) is None


def test_companions_that_are_killed_come_back_and_their_jobs_too(
    bench: FrappeBench, tmp_path: Path, notes: Path
) -> None:
    with gunicorn(bench, tmp_path, scheduler=SCHEDULER, worker=WORKER) as started:
        job, killed = Waiting(bench, notes), {started.pid(name) for name in ("scheduler", "worker")}
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        first, second = job.runs(2)
        assert not {first, *killed} & started.alive()
        assert job.end() == ["finished", 1]
        wait_until(lambda: leads(started), 60)
        started.end()


def test_a_companion_that_ends_leaves_the_managers_socket(
    bench: FrappeBench, tmp_path: Path
) -> None:
    """Which restarts it as often as it is asked; and its log tells of nobody else."""
    with gunicorn(bench, tmp_path, scheduler=SCHEDULER, worker=WORKER) as started:
        for name in ("scheduler", "worker") * 2:
            before = started.pid(name)
            started.control("restart", name)
            wait_until(lambda: started.pid(name) not in (0, before), 60)  # noqa: B023
        assert look(started)["site"] == bench.site
        started.end()
        for path in tmp_path.glob("*.log"):
            assert "companion manager" not in path.read_text()


@pytest.mark.parametrize("killed", ["master", "manager"])
def test_a_worker_that_nobody_watches_finishes_its_job_and_ends(
    bench: FrappeBench, tmp_path: Path, notes: Path, killed: str
) -> None:
    with gunicorn(bench, tmp_path, worker=WORKER) as started:
        job, worker = Waiting(bench, notes), started.pid("worker")
        manager, master = parent(worker), started.process.process.pid
        os.kill(manager if killed == "manager" else master, signal.SIGKILL)
        wait_until(lambda: "told to stop" in started.log, 60)
        assert job.end() == ["finished", 1]
        theirs = {manager, worker, *job.runs(1)}  # the web's processes look after theirs themselves
        wait_until(lambda: not theirs & started.alive(), 60)
        assert len(job.runs(1)) == 1
        if killed == "manager":
            assert look(started)["site"] == bench.site
            started.end()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
