"""Whatever a broker does with its messages, a job runs once at a time and is never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.celery import lease
from frappe_jobs.testing import wait_until

LEASE = 2


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def make(request, make_bench):
    """Makes benches with a short lease, on each broker."""
    config = {"frappe_jobs_lease": LEASE}
    if request.param == "rabbitmq":
        config["celery_broker_url"] = request.getfixturevalue("amqp_url")
    return lambda: make_bench(**config)


@pytest.fixture
def bench(make):
    """One of the test's own, for tests that kill."""
    bench = make()
    bench.use()
    with frappe.site("site1"):
        yield bench


@pytest.fixture(scope="module")
def _served(make):
    bench = make()
    with two_workers(bench):
        yield bench


@pytest.fixture
def served(_served):
    """One with two workers."""
    _served.use()
    with frappe.site("site1"):
        yield _served


@contextmanager
def two_workers(bench):
    with bench.process("worker", "--queue", "default") as one:
        with bench.process("worker", "--queue", "default") as two:
            for worker in (one, two):
                worker.wait_ready()
            yield one, two


def runs(bench, name):
    """begin and end of each run, in order of time."""
    marks = [mark for mark in bench.marks() if mark["what"] in ("begin", "end")]
    return [mark["what"] for mark in marks if mark["name"] == name]


def begun(bench, name, seconds):
    """A job that is in its method."""
    job = frappe.enqueue(tasks.work, seconds=seconds, name=name)
    wait_until(lambda: runs(bench, name), 10)
    return job


def test_a_job_longer_than_the_lease_runs_once_though_another_worker_idles(served):
    job = begun(served, "long", seconds=3 * LEASE)
    job.wait(30)
    frappe.enqueue(tasks.ping).wait(10)
    assert runs(served, "long") == ["begin", "end"]
    assert job.attempt == 1


def test_a_message_that_comes_twice_waits_until_the_first_run_has_ended(served):
    job = begun(served, "twice", seconds=1.5 * LEASE)
    here = runtime.current()
    message = here.ledger.read(job.message_id).message
    here.broker.send_again([message])
    job.wait(20)
    wait_until(lambda: here.broker.depth("default") == 0, 20)
    frappe.enqueue(tasks.ping).wait(10)
    assert runs(served, "twice") == ["begin", "end"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_message_that_comes_twice_to_one_worker_waits_as_well(make, pool):
    """Also where its processes cannot be told apart: threads have one number."""
    bench = make()
    bench.use()
    with bench.worker("--pool", pool, "--concurrency", "2", "--queue", "default"):
        with frappe.site("site1"):
            job = begun(bench, "twice", seconds=1.5 * LEASE)
            here = runtime.current()
            here.broker.send_again([here.ledger.read(job.message_id).message])
            job.wait(20)
            wait_until(lambda: here.broker.depth("default") == 0, 20)
            frappe.enqueue(tasks.ping).wait(10)
    assert runs(bench, "twice") == ["begin", "end"]


def test_a_killed_workers_job_is_started_again_once_its_lease_is_over(bench):
    with two_workers(bench) as workers:
        job = begun(bench, "killed", seconds=1.0)
        (begin,) = bench.marks("begin")
        record = runtime.current().ledger.read(job.message_id)
        (killed,) = [one for one in workers if f".{one.process.pid}@" in record.worker]
        os.killpg(killed.process.pid, signal.SIGKILL)
        job.wait(LEASE + 15)
    assert runs(bench, "killed") == ["begin", "begin", "end"]
    again = bench.marks("begin")[1]
    assert again["at"] - begin["at"] >= LEASE - 0.5  # no sooner, for it might have lived
    assert job.attempt == 2


def test_what_a_dead_worker_had_fetched_but_not_begun_does_not_count_as_a_start(bench):
    with bench.worker("--queue", "default") as worker:
        held = begun(bench, "held", seconds=60)
        waiting = frappe.enqueue(tasks.work, seconds=0, name="waiting")
        os.killpg(worker.process.pid, signal.SIGKILL)
    held.cancel()
    with two_workers(bench):
        waiting.wait(LEASE + 15)
    assert (waiting.attempt, runs(bench, "waiting")) == (1, ["begin", "end"])


def test_a_job_whose_lease_is_somebody_elses_is_killed(make_bench):
    bench = make_bench(frappe_jobs_lease=LEASE)
    ledger = bench.use().ledger
    with bench.worker("--queue", "default") as worker, frappe.site("site1"):
        job = begun(bench, "taken", seconds=60)
        ledger.redis.set(ledger._key("lease", job.message_id), "another/1", px=60_000)
        wait_until(lambda: "is killed: the lease of message" in worker.log, 2 * LEASE)
        assert ledger.redis.get(ledger._key("lease", job.message_id)) == "another/1"
        job.cancel()


@pytest.fixture
def process():
    """One of a worker's, as far as who kills it can tell."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


class Copy:
    """A request that a process of a worker was given, and has not answered yet."""

    _request_dict: dict[str, object] = {}

    def __init__(self, id, worker_pid):
        self.id, self.worker_pid, self.time_start = id, worker_pid, time.time()
        self.holder = f"another@host/1/{worker_pid}"

    def enforce_time_limits(self):
        pass


def test_a_process_that_holds_only_a_copy_of_what_runs_elsewhere_is_not_killed(
    make_bench, process, monkeypatch
):
    bench = make_bench(frappe_jobs_lease=LEASE)
    here = bench.use()
    with bench.worker("--queue", "default"), frappe.site("site1"):
        job = begun(bench, "copied", seconds=60)
        copies = [Copy(job.message_id, process.pid)]
        monkeypatch.setattr(lease, "running", lambda: copies)
        keeper = lease.Keeper(here)
        for _ in range(3):
            keeper._renew()
            keeper._watch()
        assert process.poll() is None
        monkeypatch.setattr(lease, "PUT_BACK", 0)  # it stays: so somebody else took over from it
        keeper._renew()
        assert process.wait(5) == -signal.SIGKILL
        assert job.get_status() == "started"
        job.cancel()


class TestRedisAway:
    """The ledger's own server, so that it can go."""

    def test_a_worker_that_cannot_renew_kills_its_job_and_it_is_started_again(
        self, make_bench, server
    ):
        # A busy machine may not renew such a short lease in time: then it is killed again.
        options = {"frappe_jobs_lease": LEASE, "frappe_jobs_max_starts": 20}
        bench = make_bench(redis_queue=embedded.running(server), **options)
        bench.use()
        with bench.worker("--queue", "default") as worker, frappe.site("site1"):
            job = begun(bench, "away", seconds=2 * LEASE)
            embedded.stop(server)
            wait_until(lambda: "is killed: the lease of message" in worker.log, 4 * LEASE)
            embedded.start(server)
            job.wait(120)
        *begins, end = runs(bench, "away")
        assert len(begins) > 1 and {*begins} == {"begin"} and end == "end"

    def test_a_job_that_ends_meanwhile_has_not_to_run_again(self, make_bench, server):
        bench = make_bench(redis_queue=embedded.running(server), frappe_jobs_lease=20)
        bench.use()
        with bench.worker("--queue", "default") as worker, frappe.site("site1"):
            job = begun(bench, "away", seconds=1)
            embedded.stop(server)
            wait_until(lambda: "cannot be written yet" in worker.log, 10)
            embedded.start(server)
            job.wait(20)
            assert frappe.enqueue(tasks.ping).wait(30) == "pong"
        assert (runs(bench, "away"), job.attempt) == (["begin", "end"], 1)

    def test_a_worker_with_a_job_and_an_idle_process_outlives_it(self, make_bench, server):
        bench = make_bench(redis_queue=embedded.running(server), frappe_jobs_lease=10)
        bench.use()
        with bench.worker("--concurrency", "2") as worker, frappe.site("site1"):
            job = begun(bench, "away", seconds=4)
            embedded.stop(server)
            embedded.start(server)
            job.wait(30)
            assert frappe.enqueue(tasks.ping).wait(10) == "pong"
            assert worker.process.poll() is None
            assert worker.stop() == 0
        assert runs(bench, "away") == ["begin", "end"]

    def test_the_end_of_a_job_that_is_overdue_meanwhile_is_insisted_on_by_one_thread(
        self, make_bench, server
    ):
        bench = make_bench(
            redis_queue=embedded.running(server), frappe_jobs_lease=6, frappe_jobs_timeout_grace=1,
            frappe_jobs_max_starts=1,
        )  # fmt: skip
        bench.use()
        with bench.worker("--queue", "default") as worker, frappe.site("site1"):
            job = frappe.enqueue(tasks.sleep_on, seconds=20, timeout=1)
            wait_until(lambda: job.get_status() == "started", 20)
            embedded.stop(server)
            said = "cannot be written yet"
            wait_until(lambda: said in worker.log, 30)
            with pytest.raises(TimeoutError):
                wait_until(lambda: worker.log.count(said) > 1, 3)
            embedded.start(server)

    def test_a_short_absence_changes_nothing(self, make_bench, server):
        bench = make_bench(redis_queue=embedded.running(server), frappe_jobs_lease=10)
        bench.use()
        with two_workers(bench), frappe.site("site1"):
            job = begun(bench, "away", seconds=4)
            embedded.stop(server)
            embedded.start(server)
            job.wait(30)
            frappe.enqueue(tasks.ping).wait(10)
        assert runs(bench, "away") == ["begin", "end"]
