"""How a job runs in the worker: order, hooks, transaction, errors, timeouts."""

from __future__ import annotations

import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from acme import once, tasks
from acme.models import Account
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from recorded import come_due

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.dispatch import Options
from frappe_jobs.execute import RunAgain
from frappe_jobs.execute.executor import Executor
from frappe_jobs.execute.run import CONFLICT_RETRIES
from frappe_jobs.ledger.away import LONGEST_REST, AwaySites
from frappe_jobs.message import Sending
from frappe_jobs.standalone.host import StandaloneHost
from frappe_jobs.testing import wait_until


@pytest.fixture
def site1(shared):
    with frappe.site("site1", user="grete@acme.test"):
        yield shared


@pytest.fixture
def account(shared):
    with frappe.site("site1"):
        tasks.install()
        frappe.db.query(Account).delete()
        frappe.new_doc("Account", name="cash").insert()
    return "cash"


def balance():
    with frappe.site("site1"):
        return frappe.get_doc("Account", "cash").balance


def failed(job, timeout=15):
    with pytest.raises(frappe.JobFailed):
        job.wait(timeout)
    return job


class TestOrder:
    def test_before_job_then_the_method_then_after_job(self, site1):
        start = len(site1.marks())
        frappe.enqueue(tasks.add, x=1, y=1).wait(10)
        marks = site1.marks()[start:]
        assert [mark["what"] for mark in marks] == ["before_job", "add", "after_job"]
        before, _, after = marks
        assert before["method"] == "acme.tasks.add"
        assert (before["kwargs"], before["transaction_type"]) == (
            {"x": 1, "y": 1},
            "job",
        )
        assert after["result"] == 2
        assert {mark["user"] for mark in marks} == {"grete@acme.test"}

    def test_a_before_job_hook_that_fails_fails_the_job(self, site1):
        job = failed(frappe.enqueue(tasks.echo, fail_before=True))
        assert "the before_job hook objects" in job.reason
        assert {"fail_before": True} not in [mark["kwargs"] for mark in site1.marks("echo")]

    @pytest.mark.parametrize("how", ["upset", "end"])
    def test_an_after_job_hook_that_fails_changes_nothing(self, site1, shared_worker, how):
        job = frappe.enqueue(tasks.return_it, what=how)
        assert job.wait(10) == f"{how} the after_job hook"
        wait_until(lambda: f"[{job.message_id}] succeeded" in shared_worker.log)
        wait_until(lambda: "the after_job hook acme.trace.after_job failed" in shared_worker.log)

    def test_after_job_hooks_that_cannot_be_found_change_nothing(self, bench):
        with (bench.path / "acme/hooks.py").open("a") as hooks:
            hooks.write("after_job = 5\n")
        with bench.worker("--queue", "default") as worker, frappe.site("site1"):
            assert frappe.enqueue(tasks.ping).wait(10) == "pong"
            wait_until(lambda: "finding the after_job hooks failed" in worker.log)

    def test_after_a_failure_after_job_is_called_all_the_same(self, site1):
        start = len(site1.marks("after_job"))
        failed(frappe.enqueue(tasks.fail))
        failed(frappe.enqueue(tasks.steer, how="exit"))
        assert [mark["result"] for mark in site1.marks("after_job")[start:]] == [None] * 2

    def test_a_failure_is_logged_under_the_jobs_name(self, site1, shared_worker):
        failed(frappe.enqueue(tasks.fail, text="to be read", job_name="Read me"))
        wait_until(lambda: "Read me failed: to be read" in shared_worker.log)


class TestTransaction:
    def test_what_it_wrote_is_committed(self, account, shared):
        with frappe.site("site1"):
            frappe.enqueue(tasks.deposit, account="cash", amount=5).wait(10)
        assert balance() == 5

    def test_a_failed_job_is_rolled_back(self, account, shared_worker):
        with frappe.site("site1"):
            job = failed(frappe.enqueue(tasks.deposit, account="cash", amount=5, fail=True))
        wait_until(lambda: f"[{job.message_id}] raised" in shared_worker.log)  # its site is closed
        assert balance() == 0

    def test_sites_do_not_mix_whatever_the_jobs_before_did(self, shared):
        jobs = []
        for number in range(30):
            site = f"site{number % 2 + 1}"
            with frappe.site(site, user=f"user{number}"):
                if number % 5 == 0:
                    frappe.enqueue(tasks.fail)
                jobs.append((site, f"user{number}", frappe.enqueue(tasks.whoami)))
        for site, user, job in jobs:
            assert job.wait(10)[:2] == [site, user]

    def test_a_database_that_is_locked_is_tried_again_and_after_job_called_once(
        self, account, site1
    ):
        with frappe.site("site1"):
            start = len(site1.marks("after_job"))
            with runtime.current().host.session("site1") as other:
                other.db.get(Account, "cash").balance = 10
                other.db.flush()  # SQLite: nobody else can write now
                job = frappe.enqueue(tasks.deposit, account="cash", amount=5)
                wait_until(lambda: job.get_status() == "queued" and job.attempt == 1, 20)
                assert "others were writing for 10 s" in job.reason
            job.wait(20)
            assert len(site1.marks("after_job")) == start + 1
        assert (job.attempt, job.reason, balance()) == (2, None, 15)


class TestErrors:
    @pytest.mark.parametrize("how", ["ignore", "reject", "exit", "memory"])
    def test_what_would_steer_celery_or_end_the_worker_is_a_failure(
        self, site1, shared_worker, how
    ):
        job = failed(frappe.enqueue(tasks.steer, how=how))
        assert job.status == "failed"
        wait_until(lambda: f"[{job.message_id}] raised" in shared_worker.log)  # for Celery as well
        assert frappe.enqueue(tasks.ping).wait(10) == "pong"

    def test_a_result_that_cannot_travel_is_dropped_and_the_job_finished(
        self, site1, shared_worker
    ):
        job = frappe.enqueue(tasks.return_it, what="object")
        assert (job.wait(10), job.status) == (None, "finished")
        wait_until(lambda: "Its result is not kept" in shared_worker.log)

    def test_retry_background_job_error_runs_it_again(self, site1):
        job = frappe.enqueue(tasks.succeed_at_last, attempts=3)
        assert job.wait(20) == 3
        first, last = (mark["at"] for mark in site1.marks("attempt")[-2:])
        assert last - first > 1.9  # the second delay is longer than the first

    def test_after_five_retries_it_has_failed(self, site1):
        until = site1.path / "go"
        held = [frappe.enqueue(tasks.hold, until=str(until)) for _ in range(2)]
        four, five = (frappe.enqueue(tasks.succeed_at_last, attempts=100) for _ in range(2))
        ledger = runtime.current().ledger
        for job, retries in ((four, 4), (five, 5)):
            ledger.redis.hset(ledger._key("record", job.message_id), "retries", retries)
        until.touch()
        assert failed(five).attempt == 1
        wait_until(lambda: four.get_status() == "queued" and four.attempt == 1)  # for its fifth
        four.cancel()
        assert [one.wait(10) for one in held] == [None, None]

    def test_a_job_whose_process_dies_is_started_three_times_in_all(self, site1, shared_worker):
        job = failed(frappe.enqueue(tasks.die, on_failure=tasks.on_failure), 40)
        assert (job.reason, job.attempt) == ("its process died 3 times", 3)
        assert [frappe.enqueue(tasks.ping).wait(10) for _ in range(4)] == ["pong"] * 4
        wait_until(lambda: job.id in [mark["job"] for mark in site1.marks("on_failure")])
        marks = [mark for mark in site1.marks("on_failure") if mark["job"] == job.id]
        assert [(one["type"], one["user"], one["status"]) for one in marks] == [
            ("JobFailed", "grete@acme.test", "failed")
        ]
        wait_until(lambda: f"[{job.message_id}] raised" in shared_worker.log)  # for Celery as well

    def test_only_processes_that_died_since_a_loop_went_on_count(self, site1, shared_worker):
        job = frappe.enqueue(once.dying_loop, count=5)
        assert (job.wait(60), job.attempt) == (5, 6)

    def test_of_a_killed_job_that_was_deleted_no_failure_is_told(self, site1, shared_worker):
        here = runtime.current()
        killed = here.ledger.read(frappe.enqueue(tasks.ping).message_id).message
        told = replace(killed.again(at=0.0), failure_of="deleted", on_failure="acme.tasks.fail")
        here.dispatcher.dispatch([Sending(told)])
        wait_until(lambda: f"[{told.id}] succeeded" in shared_worker.log, 10)

    def test_a_failure_is_told_of_no_job_but_one_of_the_site_that_has_failed(
        self, site1, shared_worker
    ):
        here = runtime.current()
        with frappe.site("site2") as session:
            elsewhere = failed(frappe.enqueue(tasks.fail, on_failure=tasks.on_failure))
            waits = here.dispatcher.compose(
                tasks.fail, {}, Options(on_failure=tasks.on_failure), session
            )
            waits = replace(waits, site="site1")
            here.ledger.record([Sending(waits)])
        failures = here.ledger.read(elsewhere.message_id).message, waits
        wait_until(lambda: elsewhere.id in [mark["job"] for mark in site1.marks("on_failure")], 10)
        before = len(site1.marks("on_failure"))
        for message in failures:
            told = replace(
                message.again(at=0.0), site="site1", job_id=str(uuid4()), failure_of=message.id
            )
            here.dispatcher.dispatch([Sending(told)])
            assert "whose failure it reports" in failed(here.jobs.of_message(told)).reason
        assert frappe.enqueue(tasks.ping).wait(10) == "pong"
        assert len(site1.marks("on_failure")) == before
        here.jobs.of_message(waits).cancel()

    def test_one_that_is_killed_by_celerys_own_revoke_is_cancelled(self, site1):
        job = frappe.enqueue(tasks.sleep, seconds=60)
        wait_until(lambda: job.get_status() == "started", 10)
        control = runtime.current().app.control
        control.revoke(job.message_id, terminate=True, signal="SIGKILL")
        job = failed(job)
        assert (job.status, job.reason) == ("cancelled", "terminated by Celery")

    def test_who_cancels_a_job_that_ends_meanwhile_has_no_callback_called(self, site1):
        until = site1.path / "cancelled"
        job = frappe.enqueue(tasks.hold, until=str(until), on_success=tasks.on_success)
        wait_until(lambda: job.get_status() == "started", 10)
        ledger = runtime.current().ledger
        ledger.end(ledger.read(job.message_id).message, "cancelled")
        seen = len(site1.marks("after_job"))
        until.touch()
        wait_until(lambda: len(site1.marks("after_job")) > seen)
        for _ in range(4):
            frappe.enqueue(tasks.ping).wait(10)
        assert job.id not in [mark["job"] for mark in site1.marks("on_success")]
        assert job.get_status() == "cancelled"

    def test_a_job_whose_record_was_lost_runs_all_the_same(self, bench):
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.add, x=1)
            ledger = runtime.current().ledger
            ledger.redis.delete(ledger._key("record", job.message_id))
            with bench.worker("--queue", "default"):
                wait_until(lambda: bench.marks("add"), 10)
                assert job.wait(10) == 1

    def test_a_cancelled_job_is_not_brought_back_by_its_retry(self, bench):
        ledger = runtime.current().ledger
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.ping)
        message = ledger.read(job.message_id).message
        assert ledger.start(message, "a worker").number == 1
        assert job.position is None
        ledger.end(message, "cancelled")
        ledger.wait_for_retry(message, 1, {"reason": "locked"})
        assert (job.get_status(), job.reason, job.position) == ("cancelled", None, None)

    def test_a_site_that_is_gone_fails_the_job(self, bench):
        bench.write("site3/site_config.json", {})
        with frappe.site("site3"):
            job = frappe.enqueue(tasks.ping)
        (bench.sites / "site3/site_config.json").unlink()
        with bench.worker("--queue", "default"):
            assert "SiteNotFound" in failed(job).reason


class TestProcesses:
    def test_they_share_what_the_worker_imported_before_it_forked(self, site1):
        imported_by, parent = frappe.enqueue(tasks.who_imported).wait(10)
        assert imported_by == parent

    def test_what_a_job_starts_or_forks_ends_by_sigterm_as_anywhere(self, site1):
        ends = frappe.enqueue(tasks.start_processes).wait(15)
        assert ends == [signal.SIGTERM, signal.SIGTERM]

    def test_while_it_runs_its_message_is_kept_under_the_benchs_own_keys(self, site1, tmp_path):
        until = tmp_path / "until"
        job = frappe.enqueue(tasks.hold, until=str(until))
        wait_until(lambda: job.get_status() == "started", 10)
        ledger = runtime.current().ledger
        unacked = ledger.redis.hvals(f"{ledger._prefix}unacked")
        assert [job.message_id in one for one in unacked].count(True) == 1
        assert ledger.redis.zcard(f"{ledger._prefix}unacked_index") == len(unacked)
        until.touch()
        job.wait(10)


class TestTimeout:
    def test_a_job_gets_an_exception_at_its_timeout(self, site1):
        job = failed(frappe.enqueue(tasks.sleep, timeout=1, seconds=60))
        assert job.reason == "timed out after 1 s"
        assert job.ended_at - job.started_at < 3

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("celery.exceptions", "SoftTimeLimitExceeded"),
            ("rq.timeouts", "JobTimeoutException"),
        ],
    )
    def test_an_app_catches_it_as_celerys_or_as_rqs(self, site1, module, name):
        job = frappe.enqueue(tasks.catch_timeout, timeout=1, module=module, name=name)
        assert job.wait(10) == "caught"

    def test_a_job_that_goes_on_is_killed_a_grace_later(self, make_bench):
        bench = make_bench(frappe_jobs_timeout_grace=1)
        bench.use()
        with bench.worker("--concurrency", "2"), frappe.site("site1"):
            other = frappe.enqueue(tasks.sleep, seconds=9, name="unhurt")
            job = frappe.enqueue(tasks.sleep_on, timeout=1, seconds=60, on_failure=tasks.on_failure)
            failed(job)
            assert "timed out after 1 s" in job.reason and "killed" in job.reason
            assert [mark["what"] for mark in bench.marks("swallowed")]
            assert frappe.enqueue(tasks.ping).wait(6) == "pong"  # the slot is back
            assert other.wait(15) == "unhurt"
            wait_until(lambda: bench.marks("on_failure"), 10)
            frappe.enqueue(tasks.ping).wait(10)
            assert [mark["job"] for mark in bench.marks("on_failure")] == [job.id]
            wait_until(lambda: not frappe.get_jobs())  # nothing of it is left to be done


def test_of_a_killed_job_on_failure_is_told_once(bench):
    here = runtime.current()
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping, on_failure=tasks.on_failure)
    message = here.ledger.read(job.message_id).message
    here.broker.discard([message])
    for _ in range(2):
        here.killed(message, "killed")
    assert (job.get_status(), job.reason) == ("failed", "killed")
    wait_until(lambda: here.broker.depth("default"), 10)  # a thread sends the report
    assert here.ledger.waiting("default") == here.broker.depth("default") == 1


class TestDatabaseAway:
    """A site on a database server that is down when its job opens, and comes back."""

    @pytest.fixture
    def away(self, shared):
        site = "site-away"
        shared.write(
            f"{site}/site_config.json",
            {"frappe_jobs_database_url": "sqlite:///no/such.db"},
        )
        yield site
        shutil.rmtree(shared.sites / site)

    def test_the_job_waits_and_runs_when_it_is_back(self, shared, away):
        with frappe.site(away):
            job = frappe.enqueue(tasks.install)
        wait_until(lambda: job.get_status() == "queued" and job.attempt == 1, 10)
        assert "DatabaseUnavailable" in job.reason
        (shared.sites / away / "no").mkdir()
        job.wait(20)
        assert (job.status, job.reason) == ("finished", None)

    def test_it_is_tried_twice_a_minute_at_least(self, shared, shared_worker, away):
        ledger = runtime.current().ledger
        ledger.redis.set(ledger._key("away", away), 100)
        with frappe.site(away):
            job = frappe.enqueue(tasks.install, job_name="Wait for long")
        wait_until(lambda: "Wait for long is run again in 30 s" in shared_worker.log, 10)
        job.cancel()
        AwaySites(ledger, trial=5).note_reached(away)

    def test_a_site_that_cannot_even_be_opened_is_tried_again(self, shared, away):
        class Eager(StandaloneHost):
            """Connects when a site is opened, as Frappe does."""

            @contextmanager
            def session(self, *arguments):
                with super().session(*arguments) as session:
                    session.db.connection()
                    yield session

        here = runtime.current()
        with frappe.site("site1"):
            message = here.ledger.read(frappe.enqueue(tasks.ping).message_id).message
        message = replace(message, id=str(uuid4()), site=away)
        sites = AwaySites(here.ledger, trial=5)
        executor = Executor(Eager(here.settings), here.ledger, here.jobs, here.tracking, sites)
        for times in range(CONFLICT_RETRIES + 2):  # as long as it takes
            with pytest.raises(RunAgain) as again:
                executor.execute(message, holder="a worker", timed_out=TimeoutError)
            assert again.value.delay == min(2**times, LONGEST_REST)
            here.ledger.redis.delete(here.ledger._key("rest", away))
            come_due(here.ledger, message)
        record = here.ledger.read(message.id)
        assert (record.status, record.reason.partition(":")[0]) == (
            "queued",
            "DatabaseUnavailable",
        )
        here.ledger.end(message, "cancelled")
        sites.note_reached(away)

    def test_one_that_had_reached_its_own_database_is_not_tried_for_ever(self, shared, away):
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.reach_other, site=away)
            ledger = runtime.current().ledger
            wait_until(lambda: job.get_status() == "queued" and job.attempt == 1, 10)
            ledger.redis.hset(ledger._key("record", job.message_id), "retries", 5)
            assert "DatabaseUnavailable" in failed(job).reason

    def test_an_error_of_a_call_after_the_commit_does_not_run_the_method_again(self, shared):
        with frappe.site("site1"):
            job = failed(frappe.enqueue(tasks.fail_after_commit, retry=3))
        assert (job.attempt, job.reason) == (1, "ValueError: after the commit")


def test_neither_its_result_nor_its_arguments_are_in_the_log_and_in_what_celery_tells(
    site1, shared_worker
):
    job = frappe.enqueue(tasks.echo, secret="geheim-17")
    assert job.wait(30) == {"secret": "geheim-17"}
    again = frappe.enqueue(tasks.fail, text="geheim", retry=frappe.Retry(1, 1))
    wait_until(lambda: again.get_status() == "failed", 30)
    wait_until(lambda: f"[{job.message_id}] succeeded" in shared_worker.log, 20)
    assert "geheim-17" not in shared_worker.log


class TestAgainstTheAsyncResult:
    def test_celery_sees_a_failure_and_a_cancellation(self, shared):
        app = runtime.current().app
        with frappe.site("site1"):
            job = failed(frappe.enqueue(tasks.fail, text="for Celery"))
            gone = frappe.enqueue(tasks.sleep, seconds=60)
            gone.cancel()
        result = AsyncResult(job.message_id, app=app)
        with pytest.raises(ValueError, match="for Celery"):
            result.get(timeout=10)
        assert "raise ValueError(text)" in result.traceback
        with pytest.raises(TaskRevokedError):
            AsyncResult(gone.message_id, app=app).get(timeout=10)


def test_a_message_with_the_id_of_another_sites_job_leaves_that_one_alone(bench):
    here = runtime.current()
    with frappe.site("site2"):
        job = frappe.enqueue(tasks.echo, tag="site2's own")
    forged = replace(here.ledger.read(job.message_id).message, site="site1")
    here.broker.discard([forged])
    here.broker.send_again([forged])
    with bench.worker("--queue", "default") as worker:
        wait_until(lambda: "bears the id of another job" in worker.log, 10)
    assert (job.get_status(), bench.marks("echo")) == ("queued", [])
