"""--burst ends when nothing is left; --max-jobs, --max-memory, --strategy; the pool of workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.celery.transport.ahead import SHORT
from frappe_jobs.testing import slowness, wait_until


@pytest.fixture
def bench(on_each_broker):
    return on_each_broker


def ended(worker, timeout=30):
    assert worker.process.wait(timeout) == 0, worker.log
    return time.monotonic()


def is_alive(pid):
    """Not one that has ended and waits for its parent to notice."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class TestBurst:
    def test_with_nothing_to_do_it_ends_at_once(self, bench):
        with bench.process("worker", "--burst") as worker:
            wait_until(lambda: "ready" in worker.lines, 20)
            at = time.monotonic()
            assert ended(worker) - at < 3 * slowness()

    def test_it_ends_when_all_is_done_retries_and_jobs_of_jobs_included(self, bench):
        jobs = [frappe.enqueue(tasks.add, x=x, at_front=x % 3 == 0) for x in range(30)]
        again = frappe.enqueue(tasks.succeed_at_last, attempts=3)
        frappe.enqueue(tasks.enqueue_further, rollback=False)
        with bench.process("worker", "--queue", "default", "--burst") as worker:
            ended(worker)
        assert {job.get_status() for job in jobs} == {"finished"}
        assert again.get_status() == "finished"
        assert sorted(mark["x"] for mark in bench.marks("add")) == sorted([*range(30), 7])
        assert runtime.current().broker.depth("default") == 0

    def test_it_leaves_other_queues_alone(self, bench):
        job = frappe.enqueue(tasks.ping, "long")
        with bench.process("worker", "--queue", "short", "--burst") as worker:
            ended(worker)
        assert job.get_status() == "queued"

    def test_it_waits_for_what_runs(self, bench):
        job = frappe.enqueue(tasks.sleep, seconds=2, name="slow")
        with bench.process("worker", "--burst") as worker:
            ended(worker)
        assert job.get_status() == "finished"


class TestChildren:
    def test_a_process_is_replaced_after_so_many_jobs(self, on_redis):
        with on_redis.worker("--queue", "default", "--max-jobs", "2"):
            for number in range(6):
                frappe.enqueue(tasks.work, seconds=0, name=str(number)).wait(10)
        pids = [mark["pid"] for mark in on_redis.marks("end")]
        assert len(set(pids)) == 3
        assert pids[0] == pids[1] != pids[2] == pids[3]

    def test_a_process_that_is_replaced_ends_at_once(self, on_redis):
        """The next job waits for its successor, and so for its end."""
        with on_redis.worker("--queue", "default", "--max-jobs", "1"):
            frappe.enqueue(tasks.work, seconds=0, name="last").wait(20)
            (mark,) = on_redis.marks("end")
            wait_until(lambda: not is_alive(mark["pid"]), 20, interval=0.01)
            assert time.time() - mark["at"] < 0.9 * slowness()

    def test_a_process_is_replaced_when_it_is_too_large(self, on_redis):
        with on_redis.worker("--queue", "default", "--max-memory", "1"):
            for number in range(3):
                frappe.enqueue(tasks.work, seconds=0, name=str(number)).wait(10)
        assert len({mark["pid"] for mark in on_redis.marks("end")}) == 3


class TestStrategy:
    def order(self, bench, *options, seconds=0):
        """In which order one job after the other of two queues is begun."""
        for queue in ("short", "long"):
            for number in range(20):
                frappe.enqueue(tasks.sleep, queue, seconds=seconds, name=f"{queue} {number}")
        with bench.process("worker", "--queue", "short,long", "--burst", *options) as worker:
            ended(worker)
        return [mark["name"].split()[0] for mark in bench.marks("sleep")]

    def test_round_robin_takes_turns(self, on_redis):
        # Too long for one to be taken ahead, which may have to go back: its queue loses a turn.
        order = self.order(on_redis, "--strategy", "round_robin", seconds=2 * SHORT)
        assert order[:40] in (["short", "long"] * 20, ["long", "short"] * 20)

    def test_random_does_not(self, on_redis):
        order = self.order(on_redis, "--strategy", "random")
        assert sorted(order) == ["long"] * 20 + ["short"] * 20
        turns = sum(one != other for one, other in zip(order, order[1:], strict=False))
        assert 1 < turns < 39

    def test_without_one_earlier_queues_go_first(self, on_redis):
        assert self.order(on_redis) == ["short"] * 20 + ["long"] * 20


class TestWorkerPool:
    def test_each_group_serves_its_queues_with_its_number_of_processes(self, bench):
        arguments = "--queue", "short,default:2", "--queue", "long"
        with bench.worker_of("worker-pool", *arguments, "--num-workers", "3") as pool:
            assert pool.lines.count("ready") == 1
            consumers = runtime.current().broker.consumers()
            assert consumers == {"short": 2, "default": 2, "long": 3}
            for queue in consumers:
                assert frappe.enqueue(tasks.ping, queue).wait(10) == "pong"
            assert pool.stop() == 0

    def test_burst_ends_when_every_group_has(self, bench):
        jobs = [frappe.enqueue(tasks.ping, queue) for queue in ("short", "long") for _ in range(9)]
        arguments = "--queue", "short", "--queue", "long", "--num-workers", "1", "--burst"
        with bench.process("worker-pool", *arguments) as pool:
            ended(pool)
        assert {job.get_status() for job in jobs} == {"finished"}

    def test_a_worker_that_dies_is_replaced(self, on_redis):
        arguments = "--queue", "short", "--queue", "long", "--num-workers", "1"
        with on_redis.worker_of("worker-pool", *arguments) as pool:
            before = pool.children
            assert len(before) == 2
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda: len({*pool.children} - {*before}) == 1, 10)
            for queue in ("short", "long"):
                assert frappe.enqueue(tasks.ping, queue).wait(20) == "pong"
            assert "ended with -9" in pool.log
            assert pool.stop() == 0

    @pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
    def test_told_to_stop_all_finish_what_runs(self, on_redis, to_group):
        with on_redis.worker_of("worker-pool", "--num-workers", "2", "--queue", "default") as pool:
            job = frappe.enqueue(tasks.sleep, seconds=1.5, name="slow")
            wait_until(lambda: job.get_status() == "started", 10)
            if to_group:
                os.killpg(pool.process.pid, signal.SIGTERM)
            assert pool.stop() == 0
        assert job.get_status() == "finished"

    def test_its_workers_end_with_it(self, on_redis):
        with on_redis.worker_of("worker-pool", "--queue", "short", "--queue", "long") as pool:
            workers = pool.children
            pool.process.kill()
            wait_until(lambda: not any(map(pool.is_alive, workers)), 10)

    def test_bad_groups_are_wrong_usage(self, on_redis):
        for value, said in (("short:0", "'0'"), ("short:x", "'x'"), (":2", "no queue"),
                            ("nope:2", "known: short, default, long")):  # fmt: skip
            done = on_redis.run("worker-pool", "--queue", value)
            assert (done.returncode, said in done.stderr) == (2, True), done.stderr
