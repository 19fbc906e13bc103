"""What a job may start and print; what it has started goes with it where it is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from acme import processes

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

POOLS = ["prefork", "threads", "solo"]


@pytest.fixture(params=POOLS)
def any_pool(request, make_bench):
    """A worker of each pool, on a bench of its own."""
    bench = make_bench()
    bench.use()
    with frappe.site("site1"), bench.worker("--pool", request.param) as worker:
        yield worker


@pytest.fixture
def bench(make_bench):
    """Its leases are short, and so is the time that a job has after its timeout."""
    bench = make_bench(frappe_jobs_lease=4, frappe_jobs_timeout_grace=1)
    bench.use()
    with frappe.site("site1"):
        yield bench


class TestAJobMay:
    @pytest.mark.parametrize("how", [*processes.WAYS])
    def test_have_processes_compute_for_it(self, shared, how):
        with frappe.site("site1"):
            assert frappe.enqueue(processes.compute, how=how).wait(30) == [0, 1, 4]

    def test_have_one_that_sends_its_result_back(self, any_pool):
        assert frappe.enqueue(processes.compute, how="process").wait(30) == [0, 1, 4]

    def test_ask_its_output_for_what_a_stream_has(self, any_pool):
        found = frappe.enqueue(processes.ask_streams).wait(20)
        assert found == {
            "fileno": [2, 2], "encoding": "utf-8", "errors": "backslashreplace", "isatty": False,
            "writable": True, "written": 6, "closed": False,
        }  # fmt: skip
        wait_until(lambda: all(f"{text} printed" in any_pool.log for text in ("text", "bytes")), 5)

    def test_have_a_program_write_to_it(self, any_pool):
        frappe.enqueue(processes.run_program).wait(20)
        wait_until(lambda: "by a program" in any_pool.lines, 5)

    def test_switch_the_fault_handler_on(self, any_pool):
        assert frappe.enqueue(processes.handle_faults).wait(20) is True


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def begun(bench):
    """Begins a job that starts processes of each kind; gives it with their numbers."""
    left = []

    def begin(**options):
        job = frappe.enqueue(processes.start_all, **options)
        marks = wait_until(lambda: bench.marks("all started"), 20)
        left.extend(marks[-1]["pids"])
        assert all(map(is_alive, left))
        bench.path.joinpath("seen").touch()
        return job, left

    yield begin
    for pid in filter(is_alive, left):
        os.kill(pid, signal.SIGKILL)


def lease_of(bench, job):
    return bench.use().ledger.redis.exists(f"{bench.use().settings.prefix}lease:{job.message_id}")


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(),
    reason="no /proc/<pid>/smaps_rollup on this system",
)
def test_what_a_worker_has_loaded_stays_shared_with_its_processes(bench):
    bench.starts_cold = True  # a warm process has it from the tests
    with bench.worker():
        before, after = frappe.enqueue(processes.collect).wait(30)
    assert after > 0.9 * before > 10_000


class TestItsProcessesGoWithAJob:
    """A child, a grandchild, one in its own session, an orphan in its own session."""

    def test_that_is_killed_at_its_timeout_before_its_end_is_written(self, bench, begun):
        with bench.worker():
            job, left = begun(timeout=2, swallow=True)
            wait_until(lambda: job.get_status() == "failed", 15, interval=0.001)
            assert not any(map(is_alive, left))
            assert "was killed" in job.reason

    def test_that_times_out_before_its_end_is_written(self, bench, begun):
        with bench.worker():
            job, left = begun(timeout=2)
            wait_until(lambda: job.get_status() == "failed", 15, interval=0.001)
            assert not any(map(is_alive, left))
            assert job.reason == "timed out after 2 s"

    def test_that_is_cancelled(self, bench, begun):
        with bench.worker():
            job, left = begun()
            job.cancel()
            wait_until(lambda: not any(map(is_alive, left)), 5)

    def test_whose_process_is_killed_from_outside_before_its_lease_is_free(self, bench, begun):
        with bench.worker() as worker:
            job, left = begun(once=True)
            (child,) = worker.children
            os.kill(child, signal.SIGKILL)
            wait_until(lambda: not lease_of(bench, job), 10, interval=0.001)
            assert not any(map(is_alive, left))
            assert job.wait(20) == "the second time"

    def test_whose_worker_is_killed(self, bench, begun):
        with bench.worker() as worker:
            _, left = begun()
            worker.process.kill()
            left = [pid for pid in left if os.getsid(pid) == os.getsid(left[0])]
            assert len(left) >= 2
            wait_until(lambda: not any(map(is_alive, left)), 3)

    def test_that_is_handed_back(self, bench, begun):
        with bench.worker() as worker:
            job, left = begun()
            worker.process.send_signal(signal.SIGQUIT)
            wait_until(lambda: job.get_status() == "queued", 10, interval=0.001)
            assert not any(map(is_alive, left))

    def test_that_is_run_again_before_that(self, bench, begun):
        with bench.worker():
            job, left = begun(end="again", once=True)
            wait_until(lambda: job.get_status() == "queued", 10, interval=0.001)
            assert not any(map(is_alive, left))
            assert job.wait(20) == "the second time"

    def test_a_worker_in_a_pool_as_well(self, bench, begun):
        with bench.worker_of("worker-pool", "--queue", "default:1"):
            job, left = begun(timeout=2, swallow=True)
            wait_until(lambda: job.get_status() == "failed", 15, interval=0.001)
            assert not any(map(is_alive, left))


class TestAProcessOfTheWorker:
    def test_is_replaced_after_a_job_whose_processes_were_ended(self, bench):
        with bench.worker() as worker:
            before = worker.children
            with pytest.raises(frappe.JobFailed):
                frappe.enqueue(processes.keep_a_pool, fail=True).wait(20)
            assert frappe.enqueue(processes.keep_a_pool).wait(20) == [0, 1, 4]
            assert worker.children != before
            assert "exited with" not in worker.log

    def test_leaves_what_a_finished_job_has_started_until_it_ends_itself(self, bench, begun):
        with bench.worker("--max-jobs", "2") as worker:
            job, left = begun(end="finish")
            job.wait(20)
            daemons = {pid for pid in left if os.getsid(pid) != os.getsid(worker.process.pid)}
            assert 0 < len(daemons) < len(left)
            with pytest.raises(frappe.JobFailed):
                frappe.enqueue(processes.fail_leaving, pids=left).wait(20)
            wait_until(lambda: {*filter(is_alive, left)} == daemons, 10)
            worker.stop()
        assert {*filter(is_alive, left)} == daemons

    def test_keeps_no_dead_orphans(self, bench):
        with bench.worker() as worker:
            frappe.enqueue(processes.leave_dead_orphans, number=3).wait(20)
            (child,) = worker.children

            def zombies():
                frappe.enqueue(processes.ping).wait(20)
                text = Path(f"/proc/{child}/task/{child}/children").read_text()
                return text.split()

            wait_until(lambda: not zombies(), 10)

    def test_does_not_hear_what_a_terminal_tells_the_worker(self, bench):
        """Ctrl+C is for the worker, which lets a job finish, with its programs."""
        with bench.worker() as worker:
            job = frappe.enqueue(processes.run_for, seconds=1.5)
            wait_until(lambda: bench.marks("runs"), 10)
            os.killpg(worker.process.pid, signal.SIGINT)
            assert worker.process.wait(15) == 0
        assert job.wait(0) == 0

    def test_stands_still_with_the_worker(self, bench):
        with bench.worker() as worker:
            job = frappe.enqueue(processes.count_for, seconds=1.5)
            wait_until(lambda: bench.marks("runs"), 10)
            os.killpg(worker.process.pid, signal.SIGTSTP)
            (child,) = worker.children

            def state():
                return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]

            wait_until(lambda: state() == "T", 5)
            os.killpg(worker.process.pid, signal.SIGCONT)
            wait_until(lambda: state() != "T", 5)
            job.wait(20)


def test_a_pool_of_threads_outlives_a_job_that_outlives_its_timeout(bench):
    with bench.worker("--pool", "threads") as worker:
        job = frappe.enqueue(processes.run_for, seconds=9, timeout=1)
        assert job.wait(20) == 0
        assert worker.process.poll() is None
