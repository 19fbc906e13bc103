"""A tracked job with a real worker: its Background Task says how it ends, however that is."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.errors import BrokerUnavailable, JobError, JobNotFound, PermissionError
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.testing import wait_until

TASK = "Background Task"
#: So that what a dead process leaves is found soon.
LEASE = {"frappe_jobs_lease": 2, "frappe_jobs_timeout_grace": 1}


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def served(request, make_bench):
    """A bench on either broker with a worker of three processes on all queues."""
    config = LEASE
    if request.param == "rabbitmq":
        config = LEASE | {"celery_broker_url": request.getfixturevalue("amqp_url")}
    bench = make_bench(**config)
    bench.use()
    with frappe.site("site1"):
        tasks.install()
        frappe.new_doc("Account", name="cash").insert()
    with bench.worker("--concurrency", "3") as worker:
        yield bench, worker


@pytest.fixture
def bench(served):
    served[0].use()
    return served[0]


@pytest.fixture
def worker(served):
    return served[1]


@pytest.fixture
def idle(make_bench):
    """A bench without a worker."""
    bench = make_bench(**LEASE)
    bench.use()
    return bench


def tracked(method, *, user="grete", **options):
    with frappe.site("site1", user=user):
        return frappe.enqueue(method, track_job=True, **options)


def stored(job):
    """What the database says of it, without a look at the job."""
    with frappe.site("site1"):
        [row] = frappe.get_all(TASK, {"task_id": job.task_id}, ["*"])
        return row


@contextmanager
def task_of(job, user="grete"):
    """Its document, in a transaction of that user's."""
    with frappe.site("site1", user=user):
        yield frappe.get_doc(TASK, job.task_id)


def ended(job, status, timeout=15):
    """The record, once it says so."""
    wait_until(lambda: stored(job)["status"] == status, timeout)
    return stored(job)


def runs(job):
    wait_until(lambda: stored(job)["status"] == "Running", 10)
    return job


def untracked(method, **options):
    with frappe.site("site1"):
        return frappe.enqueue(method, **options)


def known(job_id):
    return frappe.get_job(job_id, "site1")


def balance():
    with frappe.site("site1"):
        return frappe.get_doc("Account", "cash").balance


@pytest.fixture
def until(tmp_path):
    """The file for which a report waits; it goes on at the latest when the test ends."""
    yield tmp_path / "until"
    (tmp_path / "until").touch()


class TestRuns:
    def test_completed_with_its_result_by_the_time_that_the_job_has_ended(self, bench):
        job = tracked(tasks.add, x=1, y=2)
        assert job.wait(10) == 3
        row = stored(job)
        assert (row["status"], row["result"], row["progress"]) == ("Completed", "3", 100.0)
        assert row["creation"] <= row["started_at"] <= row["ended_at"]
        assert row["exception"] is None

    def test_a_result_that_cannot_travel_is_not_kept(self, bench):
        job = tracked(tasks.return_it, what="object")
        job.wait(10)
        assert (stored(job)["status"], stored(job)["result"]) == ("Completed", None)

    def test_failed_with_its_traceback(self, bench):
        job = tracked(tasks.fail, text="no money")
        with pytest.raises(frappe.JobFailed):
            job.wait(10)
        row = stored(job)
        assert (row["status"], row["result"]) == ("Failed", None)
        assert "raise ValueError(text)" in row["exception"]
        assert row["exception"].endswith("ValueError: no money\n")
        assert row["ended_at"] is not None

    @pytest.mark.parametrize("touch", ["", "read", "write"])
    def test_its_progress_is_seen_while_it_runs_whatever_its_transaction(self, bench, touch, until):
        job = tracked(tasks.report, until=str(until), touch=touch)
        expected = ("Running", 40.0, "counting")
        before = balance()

        def seen():
            with task_of(job) as task:
                return (task.status, task.progress, task.stage) == expected

        wait_until(seen, 10)
        with frappe.site("site1", user="grete"):
            row = frappe.get_recent_tasks(limit=1)[0]
        assert (row["status"], row["progress"], row["stage"]) == expected
        if touch == "":  # no transaction was open: the record itself says so
            wait_until(lambda: stored(job)["progress"] == 40.0, 10)
        until.touch()
        job.wait(10)
        row = stored(job)
        assert (row["status"], row["progress"], row["stage"]) == ("Completed", 100.0, "counting")
        assert (row["ref_doctype"], row["ref_docname"]) == ("Account", "cash")
        assert balance() - before == {"": 0, "read": 10, "write": 11}[touch]

    def test_a_failure_keeps_the_progress_and_rolls_back_the_work(self, bench, until):
        until.touch()
        before = balance()
        job = tracked(tasks.report, until=str(until), touch="write", fail=True)
        with pytest.raises(frappe.JobFailed):
            job.wait(10)
        row = stored(job)
        assert (row["status"], row["progress"], row["stage"]) == ("Failed", 40.0, "counting")
        assert balance() == before

    def test_a_retry_waits_in_between_and_leaves_no_exception(self, bench):
        job = tracked(tasks.succeed_at_last, attempts=2)
        wait_until(lambda: job.get_status() == "queued" and job.attempt == 1, 10)
        row = stored(job)
        assert (row["status"], row["ended_at"]) == ("Queued", None)
        assert "RetryBackgroundJobError: attempt 1" in row["exception"]
        assert job.wait(20) == 2
        row = stored(job)
        assert (row["status"], row["exception"], row["result"]) == ("Completed", None, "2")

    def test_retries_that_are_used_up_are_a_failure(self, bench):
        job = tracked(tasks.fail, retry=1)
        with pytest.raises(frappe.JobFailed):
            job.wait(20)
        assert (stored(job)["status"], job.attempt) == ("Failed", 2)

    def test_a_job_that_enqueues_one_sends_it_with_its_own_commit(self, bench):
        for rollback in (True, False):
            job = untracked(tasks.track_further, rollback=rollback)
            try:
                job.wait(10)
            except frappe.JobFailed:
                assert rollback
        with frappe.site("site1"):
            [row] = frappe.get_all(TASK, {"task_name": "further"}, ["*"])
        further = known(row["job_id"])
        assert further.wait(10) == 7
        assert stored(further)["status"] == "Completed"

    def test_what_fails_after_the_commit_is_a_failed_task_as_it_is_a_failed_job(self, bench):
        job = tracked(tasks.fail_after_commit)
        with pytest.raises(frappe.JobFailed):
            job.wait(10)
        assert stored(job)["status"] == "Failed"
        assert "ValueError: after the commit" in stored(job)["exception"]


class TestKilled:
    def test_at_the_timeout_and_at_the_kill_after_it(self, bench):
        slow = tracked(tasks.sleep, timeout=1, seconds=60)
        stubborn = tracked(tasks.sleep_on, timeout=1, seconds=60)
        row = ended(slow, "Failed")
        assert "sleep" in row["exception"]
        row = ended(stubborn, "Failed")
        assert row["exception"] == "timed out after 1 s and was killed"
        assert row["ended_at"] is not None

    def test_by_a_signal_it_runs_again_until_no_start_is_left(self, bench, until):
        deadly = tracked(tasks.die)
        unlucky = runs(tracked(tasks.report, until=str(until)))
        worker = runtime.current().ledger.read(unlucky.message_id).worker
        os.kill(int(worker.rpartition("/")[2]), signal.SIGKILL)
        until.touch()
        assert unlucky.wait(30) == {"accounts": 1}
        assert (stored(unlucky)["status"], unlucky.attempt) == ("Completed", 2)
        row = ended(deadly, "Failed", 40)
        assert row["exception"] == "its process died 3 times"
        assert deadly.get_status() == "failed"

    def test_by_celerys_own_revoke(self, bench):
        job = runs(tracked(tasks.sleep, seconds=60))
        here = runtime.current()
        here.app.control.revoke(job.message_id, terminate=True, signal="SIGKILL")
        row = ended(job, "Cancelled")
        assert row["exception"] == "terminated by Celery"


class TestCancel:
    def test_while_it_runs_it_is_killed_and_the_record_says_so_at_once(self, bench, until):
        job = runs(tracked(tasks.report, until=str(until)))
        with task_of(job) as task:
            assert task.cancel()
            assert task.status == "Cancelled"
        row = stored(job)
        assert (row["status"], row["exception"]) == ("Cancelled", "cancelled while it ran")
        assert job.get_status() == "cancelled"
        assert untracked(tasks.ping).wait(20) == "pong"
        assert stored(job)["status"] == "Cancelled"

    def test_only_by_its_owner_or_administrator(self, bench, until):
        job = runs(tracked(tasks.report, until=str(until)))
        with task_of(job, "otto") as task, pytest.raises(PermissionError, match="is grete's"):
            task.cancel()
        assert job.get_status() == "started"
        with task_of(job, "Administrator") as task:
            assert task.cancel()
        assert stored(job)["status"] == "Cancelled"

    def test_too_late_it_changes_nothing(self, bench):
        job = tracked(tasks.ping)
        job.wait(10)
        with task_of(job) as task:
            assert not task.cancel()
        assert stored(job)["status"] == "Completed"

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (("jobs", "cancel"), "cancelled"),
            (("jobs", "delete"), "cancelled"),
            (("purge-jobs", "--yes"), "purged"),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    def test_while_it_waits_by_the_operators_commands(self, idle, command, reason):
        job = tracked(tasks.ping)
        names = [job.id] if command[0] == "jobs" else []
        done = idle.run("--site", "site1", *command, *names)
        assert done.returncode == 0, done.stderr
        row = stored(job)
        assert (row["status"], row["exception"]) == ("Cancelled", reason)
        with task_of(job) as task:
            assert task.run_again().task_id == job.task_id
        assert stored(job)["status"] == "Queued"

    def test_superseded_by_another_one_that_took_its_id(self, idle):
        job = tracked(tasks.ping, job_id="taken")
        ledger = runtime.current().ledger
        ledger.redis.hset(ledger._key("record", job.message_id), "superseded", "1")
        with idle.worker("--queue", "default"):
            row = ended(job, "Cancelled")
        assert row["exception"] == "superseded: its job_id is another's"


class TestRunAgain:
    def test_failed_it_runs_as_the_same_task(self, bench, until):
        until.touch()
        job = tracked(tasks.report, until=str(until), fail=True, job_id="again")
        with pytest.raises(frappe.JobFailed):
            job.wait(10)
        with task_of(job, "Administrator") as task:
            again = task.run_again()
        assert (again.user, again.id) == ("grete", "again")
        with pytest.raises(frappe.JobFailed):
            again.wait(10)
        row = stored(job)
        assert (row["status"], row["message_id"]) == ("Failed", again.message_id)
        with task_of(job, "otto") as task, pytest.raises(PermissionError):
            task.run_again()

    def test_cancelled_while_it_ran_it_runs_to_its_end(self, bench, until):
        job = runs(tracked(tasks.report, until=str(until)))
        with task_of(job) as task:
            task.cancel()
        until.touch()
        with task_of(job) as task:
            again = task.run_again()
        assert again.wait(20) == {"accounts": 1}
        row = stored(job)
        assert (row["status"], row["exception"], row["progress"]) == ("Completed", None, 100.0)

    def test_completed_it_is_not(self, bench):
        job = tracked(tasks.ping)
        job.wait(10)
        with task_of(job) as task, pytest.raises(JobError, match="is Completed; only one that"):
            task.run_again()
        with task_of(job) as task:
            runtime.current().ledger.forget(runtime.current().ledger.read(job.message_id).message)
            with pytest.raises(JobError, match="is Completed; only one that"):
                task.run_again()

    def test_the_operators_retry_is_the_same_task_too(self, bench):
        job = tracked(tasks.fail)
        with pytest.raises(frappe.JobFailed):
            job.wait(10)
        first = stored(job)
        assert bench.run("--site", "site1", "jobs", "retry", job.id).returncode == 0
        wait_until(lambda: stored(job)["message_id"] != first["message_id"], 10)
        assert ended(job, "Failed")["started_at"] > first["started_at"]


class TestTrouble:
    def test_a_broker_that_is_away_at_the_commit_gets_it_later(self, make_bench, server):
        bench = make_bench(redis_queue=embedded.running(server), **LEASE)
        bench.use()
        with frappe.site("site1", user="grete"):
            job = frappe.enqueue(tasks.ping, track_job=True)
            embedded.stop(server)
        assert stored(job)["status"] == "Queued"
        assert "it is sent later: Redis at" in job.unsent
        with task_of(job) as task:  # shown as it is stored
            assert task.status == "Queued"
        embedded.start(server)
        with pytest.raises(JobNotFound, match="out of reach"):
            job.get_status()
        with bench.worker():
            assert ended(job, "Completed", 20)["result"] == '"pong"'

    def test_without_an_outbox_it_is_a_cancelled_task(self, make_bench, server):
        make_bench(redis_queue=embedded.running(server), frappe_jobs_outbox=False).use()
        with pytest.raises(BrokerUnavailable), frappe.site("site1", user="grete"):
            job = frappe.enqueue(tasks.ping, track_job=True)
            embedded.stop(server)
        row = stored(job)
        assert row["status"] == "Cancelled" and "it was never sent: Redis at" in row["exception"]
        assert "out of reach" in job.unsent
        embedded.start(server)
        with pytest.raises(JobNotFound, match="out of reach"):
            job.get_status()
        with task_of(job) as task:
            again = task.run_again()
        assert (again.get_status(), stored(job)["status"]) == ("queued", "Queued")
        embedded.stop(server)
        with pytest.raises(BrokerUnavailable):
            again.requeue()
        with task_of(job) as task:  # shown as it is stored
            assert task.status == "Queued"
        embedded.start(server)

    def test_an_end_that_nobody_could_write_a_worker_writes_later(self, bench, until):
        job = runs(tracked(tasks.report, until=str(until)))
        with runtime.current().host.session("site1") as other:
            other.db.query(BackgroundTask).filter_by(task_id=job.task_id).update({"stage": "mine"})
            assert known(job.id).cancel()
            with task_of(job) as task:  # the ledger knows
                assert task.status == "Cancelled"
            assert stored(job)["status"] == "Running"
            other.rollback()
        row = ended(job, "Cancelled", 20)
        assert row["exception"] == "cancelled while it ran"

    def test_a_database_that_is_locked_at_the_end_fails_no_job(self, bench, until):
        job = runs(tracked(tasks.report, until=str(until)))
        with runtime.current().host.session("site1") as other:
            other.db.query(BackgroundTask).filter_by(task_id=job.task_id).update({"stage": "mine"})
            until.touch()
            with pytest.raises(frappe.JobTimeout):
                job.wait(0.5)
        assert job.wait(20) == {"accounts": 1}
        assert stored(job)["status"] == "Completed"

    def test_a_settle_job_does_nothing_where_nothing_is_left(self, bench):
        here = runtime.current()
        here.task_upkeep.settle_soon("site1", "short")
        wait_until(lambda: known("frappe_jobs.settle_background_tasks::short"), 10).wait(10)
        here.task_upkeep.settle_soon("site1", "a queue that is gone")
        wait_until(lambda: known("frappe_jobs.settle_background_tasks::default"), 10).wait(10)
