"""The log of workers and schedulers: its form, the jobs that its lines belong to, its file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading

import pytest
from acme import tasks
from conftest import opened

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

#: What the log says of a job from its begin to its end.
STEPS = ("received", "logged", "printed", "succeeded")


@pytest.fixture
def bench(make_bench):
    with opened(make_bench()) as bench:
        yield bench


def lines_of(bench, name: str) -> list[str]:
    file = bench.path / "logs" / name
    return file.read_text().splitlines() if file.exists() else []


def say(**arguments) -> frappe.Job:
    job = frappe.enqueue(tasks.say, **{"text": "hello"} | arguments)
    wait_until(lambda: job.get_status() == "finished", 30)
    return job


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
class TestEachLineOfAJob:
    def test_bears_site_method_and_job_in_text_and_sighup_meets_none(self, bench, pool):
        hold = bench.path / "hold"
        with bench.worker("--pool", pool, "--log-file", "worker.log") as worker:
            say(job_id="greeting")
            wait_until(lambda: "succeeded" in "".join(lines_of(bench, "worker.log")), 10)
            lines = lines_of(bench, "worker.log")
            job = frappe.enqueue(tasks.hold, until=str(hold))
            wait_until(lambda: job.get_status() == "started", 10)
            for pid in (worker.process.pid, *worker.children):
                os.kill(pid, signal.SIGHUP)
            os.killpg(worker.process.pid, signal.SIGHUP)
            threading.Event().wait(0.3)
            hold.touch()
            wait_until(lambda: job.get_status() == "finished", 10)
            assert worker.process.poll() is None
        assert worker.process.poll() == 0
        for step in STEPS:
            [line] = [line for line in lines if re.search(rf"\b{step}\b", line)]
            assert " site1 acme.tasks.say greeting] " in line
        assert not any("acme" in line for line in worker.lines)

    def test_bears_them_in_json_and_no_other_line_does(self, bench, pool):
        with bench.worker("--pool", pool, "--log-format", "json", "--log-file", "w.log"):
            job = say(job_id="greeting", text="hello\nä\u2028\x9b\x1b[2J")
            wait_until(lambda: "succeeded" in "".join(lines_of(bench, "w.log")), 10)
            failing = frappe.enqueue(tasks.fail)
            wait_until(lambda: failing.get_status() == "failed", 30)
            wait_until(lambda: "Traceback" in "".join(lines_of(bench, "w.log")), 10)
        raw = (bench.path / "logs/w.log").read_text()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", raw)
        lines = [*map(json.loads, raw.rstrip("\n").split("\n"))]
        [failed] = [line for line in lines if "traceback" in line]
        assert failed["traceback"].endswith("ValueError: on purpose")
        assert failed["level"] == "ERROR"
        stopping = [line for line in lines if line["message"].startswith("told to stop")]
        assert len(stopping) == (pool == "prefork") and not any("site" in line for line in stopping)
        assert {line["logger"] for line in stopping} <= {"frappe_jobs.celery.stopping"}
        lines = [line for line in lines if line.get("job_id") != failing.id]
        for step in STEPS:
            [line] = [one for one in lines if re.search(rf"\b{step}\b", one["message"])][:1]
            assert (line["site"], line["method"], line["job_id"], line["queue"]) == (
                "site1", "acme.tasks.say", "greeting", "default",
            )  # fmt: skip
            assert line["message_id"] == job.message_id
            assert line["time"].endswith("+00:00") and line["pid"]
        assert any(one["message"].startswith("hello\nä\u2028\x9b\x1b[2J") for one in lines)


def test_the_parent_of_a_job_whose_process_dies_says_which_it_was(make_bench):
    bench = make_bench(frappe_jobs_timeout_grace=1)
    with opened(bench), bench.worker("--log-format", "json", "--log-file", "w.log"):
        job = frappe.enqueue(tasks.sleep_on, seconds=60, timeout=1, job_id="long")
        wait_until(lambda: job.get_status() == "failed", 60)
        wait_until(lambda: "Hard time limit" in "".join(lines_of(bench, "w.log")), 10)
    told = [json.loads(line) for line in lines_of(bench, "w.log")]
    [line] = [line for line in told if "Hard time limit" in line["message"]]
    assert (line["site"], line["job_id"]) == ("site1", "long")


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_argument_is_logged_at_any_level(bench, style):
    secret = "hunter2-in-an-argument"
    options = "--log-level", "debug", "--log-format", style
    with bench.worker(*options, "--log-file", "w.log") as worker:
        say(secret=secret)
        wait_until(lambda: "succeeded" in (bench.path / "logs/w.log").read_text(), 10)
    assert secret not in (bench.path / "logs/w.log").read_text() + worker.log


class TestTheFile:
    def test_of_a_bare_name_lies_in_the_benchs_logs(self, bench):
        with bench.worker_of("schedule", "--log-file", "scheduler.log"):
            wait_until(lambda: "scheduler leads" in "".join(lines_of(bench, "scheduler.log")), 10)

    def test_may_be_a_setting_for_all_processes(self, make_bench):
        bench = make_bench(frappe_jobs_log_file="all.log", frappe_jobs_log_format="json")
        with opened(bench), bench.worker_of("worker-pool", "--num-workers", "2", "--scheduler"):
            say()
            wait_until(lambda: "scheduler leads" in "".join(lines_of(bench, "all.log")), 10)
        told = [json.loads(line) for line in lines_of(bench, "all.log")]
        assert len({line["pid"] for line in told}) >= 3  # a worker, its process, the scheduler

    def test_is_whole_lines_though_many_processes_write_long_ones(self, bench):
        size, times = 15_000, 40
        with bench.worker("--concurrency", "4", "--log-format", "json", "--log-file", "w.log"):
            jobs = [
                frappe.enqueue(tasks.say, text=f"{n}", size=size, times=times) for n in range(8)
            ]
            wait_until(lambda: all(job.get_status() == "finished" for job in jobs), 60)
        told = [json.loads(line) for line in lines_of(bench, "w.log")]
        long = [line for line in told if line["message"].endswith("x" * size)]
        assert len(long) == 8 * times

    def test_comes_back_wherever_it_goes_and_is_read_by_its_owner_and_group_alone(self, bench):
        file, moved = bench.path / "logs/worker.log", bench.path / "logs/worker.1"
        with bench.worker("--log-file", "worker.log") as worker:
            say(text="first")
            assert file.stat().st_mode & 0o777 & ~0o640 == 0
            file.rename(moved)
            say(text="moved")
            assert "first" in moved.read_text() and "first" not in file.read_text()
            os.truncate(file, 0)  # as after a copy
            say(text="cut")
            assert file.read_text().startswith("[") and "moved" not in file.read_text()
            assert "cut" in file.read_text()
            shutil.rmtree(file.parent)
            say(text="homeless")
            wait_until(lambda: "homeless" in worker.log, 10)
            file.parent.mkdir()
            say(text="at home")
        assert "at home" in file.read_text()
        said = [line for line in lines_of(bench, "worker.log") if "could not be written" in line]
        assert said and all("WARNING/" in line for line in said)
        assert file.stat().st_mode & 0o777 & ~0o640 == 0

    @pytest.mark.parametrize("how", ["", "copytruncate"])
    def test_is_rotated_by_logrotate_under_load(self, bench, how, tmp_path):
        if not (command := shutil.which("logrotate")):
            pytest.skip("There is no logrotate here.")
        file = bench.path / "logs/worker.log"
        rules = tmp_path / "rules"
        user = "su root root\n" if os.getuid() == 0 else ""
        rules.write_text(f"{file} {{\n{user}rotate 9\n{how}\nmissingok\n}}\n")
        rules.chmod(0o644)
        with bench.worker("--concurrency", "2", "--log-file", "worker.log"):
            jobs = [frappe.enqueue(tasks.say, text=f"job{n}", times=50) for n in range(40)]
            for done in (10, 20, 30):
                wait_until(lambda job=jobs[done]: job.get_status() == "finished", 60)
                state = str(tmp_path / "state")
                subprocess.run([command, "-f", "-s", state, str(rules)], check=True)
            wait_until(lambda: all(job.get_status() == "finished" for job in jobs), 60)
        files = [*file.parent.glob("worker.log*")]
        assert len(files) == 4
        lines = [line for one in files for line in one.read_text().splitlines()]
        whole = sum(bool(re.fullmatch(r"\[.*\] job\d+ \d+ logged", line)) for line in lines)
        assert whole <= len(jobs) * 50
        if not how:  # what is written between copying and cutting is lost by the nature of that
            assert whole == len(jobs) * 50

    def test_on_a_full_disk_keeps_no_job_from_running(self, bench):
        with bench.worker("--log-file", "/dev/full") as worker:
            say(text="said elsewhere", times=20)
            wait_until(lambda: "said elsewhere 0 printed" in worker.log, 10)
        wanted = "/dev/full cannot be written (No space left on device); the log goes to standard"
        assert 1 <= sum(line.startswith(wanted) for line in worker.lines) <= 6  # not each time

    def test_that_cannot_be_written_is_said_in_a_line(self, bench):
        os.mkfifo(bench.path / "pipe")
        for command in ("worker", "schedule", "worker-pool"):
            for file in ("/nowhere/worker.log", str(bench.path / "pipe"), str(bench.path)):
                done = bench.run(command, "--log-file", file)
                assert done.returncode == 1
                assert done.stderr.startswith(f"Error: The log file '{file}' cannot be written: ")
                assert len(done.stderr.splitlines()) == 1


def test_sighup_meets_no_pool_and_no_scheduler(bench):
    options = "--num-workers", "1", "--scheduler", "--log-file", "all.log"
    with bench.worker_of("worker-pool", *options) as pool:
        before = pool.children
        for pid in (pool.process.pid, *before):
            os.kill(pid, signal.SIGHUP)
        say()
        assert pool.children == before
    assert "started again" not in pool.log


def test_a_level_may_be_asked_for_in_large_letters_too(bench):
    with bench.worker("--log-level", "WARNING", "--log-file", "w.log"):
        say()
    lines = lines_of(bench, "w.log")
    assert any("hello" in line for line in lines) and not any("received" in line for line in lines)


def test_a_wrong_setting_is_an_error_that_says_what_is_legal(make_bench):
    done = make_bench(frappe_jobs_log_format="xml").run("worker")
    assert done.returncode == 1
    assert "'frappe_jobs_log_format' must be one of text, json. It is: 'xml'." in done.stderr
