"""A worker of before turns, limits and jobs for later: beside ours, and after file-back."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from acme import tasks
from chaos.runs import Runs

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
#: The last commit whose workers take as kombu does, and have no other place where jobs wait.
BEFORE = "35caade"


@pytest.fixture(scope="module")
def older_code(tmp_path_factory):
    """A folder with that version's package."""
    command = ["git", "-C", ROOT, "archive", BEFORE, "frappe_jobs"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        pytest.skip("This checkout does not go so far back.")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def bench(make_bench):
    bench = make_bench(frappe_jobs_lease=4, frappe_jobs_limits={"queue:long": {"running": 1}})
    bench.use()
    assert bench.run("limits").returncode == 0  # puts them in force
    with frappe.site("site1"):
        yield bench


@contextmanager
def older_worker(bench, folder, *arguments):
    bench.variables["PYTHONPATH"], bench.starts_cold = str(folder), True
    newer = [sys.executable, "-c", "import frappe_jobs.brokers.turns"]
    assert subprocess.run(
        newer, cwd=bench.path, env=bench.environment, capture_output=True
    ).returncode
    try:
        with bench.worker(*arguments) as worker:
            bench.starts_cold = False
            del bench.variables["PYTHONPATH"]
            yield worker
    finally:
        bench.starts_cold = False
        bench.variables.pop("PYTHONPATH", None)


def begun(bench):
    return Counter(one["number"] for one in Runs(bench.path / "trace.jsonl").begins())


def test_beside_it_each_job_runs_once(bench, older_code):
    jobs = [frappe.enqueue(tasks.run, number=n, seconds=0.2) for n in range(8)]
    jobs += [frappe.enqueue(tasks.run, "long", number=n, seconds=1) for n in range(8, 11)]
    jobs.append(frappe.enqueue_in(5, tasks.run, number=11))
    runtime.current().broker.file(["default"])  # so that it does not find them
    with older_worker(bench, older_code), bench.worker("--concurrency", "2"):
        jobs += [frappe.enqueue(tasks.run, number=n, seconds=0.2) for n in range(12, 20)]
        for job in jobs:
            job.wait(60)
    assert begun(bench) == dict.fromkeys(range(20), 1)


def test_after_file_back_it_runs_what_was_filed_limited_and_for_later(bench, older_code):
    ledger = runtime.current().ledger
    limited = [frappe.enqueue(tasks.run, "long", number=n, seconds=5) for n in range(3)]
    later = frappe.enqueue_in(20, tasks.run, number=3)
    with bench.worker("--queue", "long", "--concurrency", "3"):
        wait_until(lambda: ledger.count_delayed(["long"]).limited == 2, 30)
    wait_until(lambda: "finished" in [job.get_status() for job in limited], 30)  # whichever began
    filed = [frappe.enqueue(tasks.run, number=n) for n in range(4, 8)]
    runtime.current().broker.file(["default"])
    done = bench.run("queues", "file-back")
    assert "messages were put back" in done.stdout, done.stderr
    due = later.due
    with older_worker(bench, older_code, "--concurrency", "2"):
        for job in (*limited, *filed, later):
            job.wait(60)
    later.refresh()
    assert later.started_at >= due - 0.1
    assert begun(bench) == dict.fromkeys(range(8), 1)
