"""Redis did it, and its answer was lost: asked again, it is the same start, and the same end."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
import redis
from acme import tasks
from recorded import ANOTHER, SOMEBODY, begun, come_due, recorded

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.dispatch import Options
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, Attempt
from frappe_jobs.message import Sending
from frappe_jobs.testing import wait_until


@pytest.fixture
def ledger(bench):
    return runtime.current().ledger


class TestStart:
    def test_the_same_run_that_asks_again_has_begun_once(self, ledger):
        job = recorded(ledger)
        assert [ledger.start(job, SOMEBODY, "a run") for _ in range(3)] == [Attempt(1)] * 3
        record = ledger.read(job.id)
        assert (record.attempt, record.died) == (1, 0)

    def test_another_run_of_the_same_process_is_another_start(self, ledger):
        job = recorded(ledger)
        ledger.start(job, SOMEBODY, "a run")
        assert ledger.start(job, SOMEBODY, "another run") == Attempt(2)
        assert ledger.read(job.id).died == 1

    def test_a_run_whose_lease_somebody_else_has_got_does_not_begin(self, ledger):
        job = recorded(ledger)
        ledger.start(job, SOMEBODY, "a run")
        ledger.release(job, SOMEBODY)
        ledger.start(job, ANOTHER, "another run")
        assert ledger.start(job, SOMEBODY, "a run").wait

    def test_of_an_attempt_that_is_over_it_is_no_longer_the_same_start(self, ledger):
        job = recorded(ledger)
        ledger.start(job, SOMEBODY, "a run")
        ledger.wait_for_retry(job, 0, {})
        come_due(ledger, job)
        assert ledger.start(job, SOMEBODY, "another run") == Attempt(2, retries=1)


class TestEnd:
    def test_who_asks_again_has_ended_it(self, ledger):
        job = begun(ledger)
        call = {"holder": SOMEBODY, "call": "a call"}
        assert [ledger.end(job, FINISHED, {"result": "1"}, **call) for _ in range(2)] == [True] * 2
        assert not ledger.end(job, FAILED)
        assert not ledger.end(job, FAILED, call="another call")
        assert ledger.read(job.id).status == FINISHED

    def test_who_asks_again_after_somebody_else_ended_it_has_not(self, ledger):
        job = begun(ledger)
        ledger.cancel([job], "not wanted")
        assert not ledger.end(job, FINISHED, call="a call")
        assert ledger.read(job.id).status == CANCELLED


class TestARunThatStoodStill:
    """Its lease ran out, and its job runs elsewhere by now: what becomes of it counts no longer."""

    @pytest.fixture
    def job(self, ledger):
        job = begun(ledger)
        ledger.release(job, SOMEBODY)
        assert ledger.start(job, ANOTHER) == Attempt(2)
        return job

    def still_runs(self, ledger, job):
        record = ledger.read(job.id)
        lease = ledger.redis.get(ledger._key("lease", job.id))
        return (record.status, record.worker, lease) == ("started", ANOTHER, ANOTHER)

    @pytest.mark.parametrize("status", [FINISHED, FAILED, CANCELLED])
    def test_it_cannot_end_the_job(self, ledger, job, status):
        assert not ledger.end(job, status, holder=SOMEBODY)
        assert self.still_runs(ledger, job)
        assert ledger.end(job, FINISHED, holder=ANOTHER)

    def test_it_cannot_put_the_job_back(self, ledger, job):
        ledger.wait_for_retry(job, 60, {}, holder=SOMEBODY)
        ledger.hand_back(job, SOMEBODY)
        assert self.still_runs(ledger, job)

    def test_it_cannot_end_a_job_that_waits_for_the_other_runs_retry(self, ledger, job):
        ledger.wait_for_retry(job, 60, {}, holder=ANOTHER)
        assert not ledger.end(job, FINISHED, holder=SOMEBODY)
        assert ledger.read(job.id).status == "queued"

    def test_it_cannot_say_how_far_it_is(self, ledger, job):
        ledger.note(job, {"progress": "40.0"}, holder=SOMEBODY)
        assert ledger.read(job.id).progress is None
        ledger.note(job, {"progress": "50.0"}, holder=ANOTHER)
        assert ledger.read(job.id).progress == 50.0

    def test_its_parent_neither_ends_it_nor_tells_on_failure(self, ledger, job):
        here = runtime.current()
        here.killed(job, "timed out after 300 s and was killed", SOMEBODY)
        assert self.still_runs(ledger, job)
        assert here.ledger.waiting("default") == 0


def test_what_is_no_longer_kept_is_not_noted_anew(ledger):
    job = begun(ledger)
    ledger.end(job, FINISHED)
    ledger.forget(job)
    ledger.note(job, {"progress": "40.0"}, holder=SOMEBODY)
    assert not ledger.redis.exists(ledger._key("record", job.id))


@contextmanager
def standing_still(server):
    """Redis answers nobody; what it was asked meanwhile it does when it goes on."""
    with redis.Redis.from_url(embedded.running(server)) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_redis_that_stands_still_lets_no_job_die_and_each_callback_be_made_once(
    make_bench, server, amqp_url, tmp_path
):
    """RabbitMQ brings the messages, so that their starts meet a Redis that stands still."""
    bench = make_bench(
        redis_queue=f"{embedded.running(server)}?socket_timeout=2",
        celery_broker_url=amqp_url,
        frappe_jobs_max_starts=1,
    )
    here = bench.use()
    with bench.worker("--queue", "default", "--concurrency", "4") as worker, frappe.site("site1"):
        with all_holding(bench, 4, tmp_path / "first"):
            pass  # each process has its connection now
        starts = [unsent(here) for _ in range(2)]
        with all_holding(bench, 2, tmp_path / "then") as ends, standing_still(server):
            here.broker.send_again(starts)
            (tmp_path / "then").touch()
            wait_until(lambda: worker.log.count("cannot be written yet") >= 4, 60)
        jobs = [*ends, *map(here.jobs.of_message, starts)]
        for job in jobs:
            job.wait(30)
        assert [job.attempt for job in jobs] == [1] * 4
        assert len(bench.marks("add")) == 2
        wait_until(lambda: len(bench.marks("on_success")) == 6, 20)


@contextmanager
def all_holding(bench, count, until):
    """So many jobs that run until that file is there; they have ended afterwards."""
    before = len(bench.marks("hold"))
    jobs = [
        frappe.enqueue(tasks.hold, until=str(until), on_success=tasks.on_success)
        for _ in range(count)
    ]
    wait_until(lambda: len(bench.marks("hold")) == before + count, 30)
    yield jobs
    until.touch()
    for job in jobs:
        job.wait(30)


def unsent(here):
    """A job whose record is written, and whose message is not sent."""
    session = here.host.require_current()
    made = here.dispatcher.compose(tasks.add, {"x": 1}, Options(), session)
    here.ledger.record([Sending(made)])
    return made
