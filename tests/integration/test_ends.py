"""A job ends whatever it raises or returns: failed once with its traceback, or finished."""

from __future__ import annotations

import json

import pytest
from acme import tasks
from celery.result import AsyncResult

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

#: What is raised, and what its reason begins with.
ERRORS = {
    "cancelled": "CancelledError: by a loop",
    "interrupt": "KeyboardInterrupt: stop",
    "generator": "GeneratorExit: closed",
    "exit": "SystemExit: 3",
    "mute": "Mute: <its text cannot be made: ValueError>",
    "unpickled": "Unpickled: 1 and 2",
    "half": "ValueError: half \\ud800 of a character",
    "nul": "ValueError: nothing \\x00 here",
    "long": "ValueError: <xxx",
}


@pytest.fixture
def site1(shared):
    with frappe.site("site1"):
        yield shared


def ended(job):
    with pytest.raises(frappe.JobFailed):
        job.wait(30)
    return job


class TestWhatItRaises:
    @pytest.mark.parametrize("track_job", [False, True], ids=["", "tracked"])
    def test_it_fails_once_with_its_traceback_and_the_process_goes_on(
        self, site1, shared_worker, track_job
    ):
        pids = {*shared_worker.children}
        jobs = {
            what: frappe.enqueue(
                tasks.raise_it, what=what, on_failure=tasks.on_failure, track_job=track_job
            )
            for what in ERRORS
        }
        if track_job:
            frappe.db.commit()
        for what, reason in ERRORS.items():
            job = ended(jobs[what])
            assert (job.status, job.attempt) == ("failed", 1)
            assert job.reason.startswith(reason), job.reason
            assert "raise errors[what]" in job.traceback
            logged = f"[{job.message_id}] raised"
            wait_until(lambda logged=logged: logged in shared_worker.log, 20)
        assert frappe.enqueue(tasks.ping).wait(20) == "pong"
        assert {*shared_worker.children} == pids

    def test_who_asks_celery_is_given_an_error_that_interrupts_nobody(self, site1):
        job = ended(frappe.enqueue(tasks.raise_it, what="interrupt"))
        with pytest.raises(Exception, match="stop"):
            AsyncResult(job.message_id, app=runtime.current().app).get(timeout=10)

    def test_it_is_run_again_as_any_other_where_that_is_asked_for(self, site1):
        for what in ("interrupt", "mute", "unpickled", "half"):
            job = ended(frappe.enqueue(tasks.raise_it, what=what, retry=1))
            assert (job.attempt, job.status) == (2, "failed")

    def test_what_is_kept_and_logged_of_a_long_one_is_head_and_tail(self, site1, shared_worker):
        before = len(shared_worker.log)
        job = ended(frappe.enqueue(tasks.raise_it, what="long"))
        settings = runtime.current().settings
        assert len(job.reason) == settings.max_reason
        assert "[of 3,000,014 characters the middle is left out]" in job.reason
        assert job.reason.endswith("xxx>")
        assert len(job.traceback) == settings.max_traceback
        assert job.traceback.startswith("Traceback")
        wait_until(lambda: f"[{job.message_id}] raised" in shared_worker.log, 20)
        assert len(shared_worker.log) - before < 200_000
        keys = [key for key in of_redis().scan_iter(f"*{job.message_id}*")]
        assert sum(of_redis().memory_usage(key) for key in keys) < 1_000_000


def of_redis():
    return runtime.current().ledger.redis


class TestWhatItReturns:
    def test_what_redis_does_not_take_is_kept_in_another_spelling(self, site1):
        job = frappe.enqueue(tasks.return_texts)
        assert job.wait(20) == {"half": "\ud800", "nul": "\0", "long": ""}
        assert (job.progress, job.stage) == (40.0, "half \\ud800, nothing \\x00")

    def test_of_a_long_result_head_and_tail_are_kept_as_a_text(self, site1, shared_worker):
        job = frappe.enqueue(tasks.return_texts, length=2_000_000, on_success=tasks.on_success)
        kept = job.wait(20)
        limit = runtime.current().settings.max_result
        assert len(kept) == limit
        assert kept.startswith('{"half": "\\ud800", "nul": "\\u0000"') and kept.endswith('xxx"}')
        assert "characters the middle is left out" in kept
        wait_until(lambda: "'frappe_jobs_max_result' allows" in shared_worker.log, 10)
        wait_until(lambda: any(mark["job"] == job.id for mark in site1.marks("on_success")), 10)
        (mark,) = [mark for mark in site1.marks("on_success") if mark["job"] == job.id]
        assert len(mark["result"]["long"]) == 2_000_000  # the callback has it whole


class TestAnId:
    NAME = "a file's \udcff name\0"

    def test_of_any_characters_is_the_same_job_for_all_who_ask(self, site1):
        job = frappe.enqueue(tasks.ping, job_id=self.NAME, job_name=self.NAME, event=self.NAME)
        assert frappe.get_job(self.NAME).message_id == job.message_id
        assert job.wait(20) == "pong"
        assert job.id == "a file's \\udcff name\\x00"

    def test_claims_it(self, site1):
        with frappe.site("site1"):
            first = frappe.enqueue(tasks.sleep, seconds=2, job_id=self.NAME, deduplicate=True)
            assert first is not None
            assert frappe.enqueue(tasks.ping, job_id=self.NAME, deduplicate=True) is None
            first.wait(20)


def test_a_show_of_what_is_long_is_short(site1):
    job = frappe.enqueue(tasks.return_texts, length=500_000)
    job.wait(20)
    shown = site1.run("--site", "site1", "jobs", "show", job.id)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout) < 15_000
    assert "the middle is left out" in shown.stdout
    (row,) = json.loads(
        site1.run("jobs", "--site", "site1", "show", job.id, "--format", "json").stdout
    )
    assert len(row["result"]["long"]) == 500_000


@pytest.mark.parametrize("retry", [0, 1])
def test_a_process_keeps_nothing_of_the_jobs_that_failed_in_it(bench, retry):
    """Also where Python's collector does not come by."""
    size, jobs = 10_000_000, 12
    with bench.worker("--queue", "default", "--quiet") as worker, frappe.site("site1"):
        ended(frappe.enqueue(tasks.fail_holding, size=size))
        (child,) = worker.children
        before = memory_of(child)
        for job in [
            frappe.enqueue(tasks.fail_holding, size=size, retry=retry) for _ in range(jobs)
        ]:
            ended(job)
        assert memory_of(child) - before < 5 * size
        assert worker.children == [child]


def memory_of(pid):
    """Bytes."""
    with open(f"/proc/{pid}/status") as status:
        (line,) = [line for line in status if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024
