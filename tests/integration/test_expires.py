"""Jobs that are not begun any more when it is too late for them."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from acme import once, tasks
from recorded import SOMEBODY, begun, come_due, message, recorded

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.errors import ArgumentError, JobFailed
from frappe_jobs.execute import RunAgain
from frappe_jobs.ledger.record import CANCELLED, FINISHED, Attempt, Refusal
from frappe_jobs.message import Sending
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.testing import Clock, run_jobs

SOON = 0.001
TOO_LATE = Refusal(expired=True)


@pytest.fixture
def ledger(on_redis):
    return runtime.current().ledger


def in_(**units):
    return datetime.now(timezone.utc) + timedelta(**units)


class TestOption:
    def test_seconds_a_span_or_a_time(self, on_redis):
        for expires in (90, 90.0, timedelta(seconds=90), in_(seconds=90)):
            job = frappe.enqueue(tasks.ping, expires=expires)
            assert abs(job.expires_at - time.time() - 90) < 30
        assert frappe.enqueue(tasks.ping).expires_at is None

    @pytest.mark.parametrize(
        ("expires", "said"),
        [
            (0, "more than 0"), (-1, "more than 0"), (True, "more than 0"), ("1h", "'1h'"),
            (float("nan"), "more than 0"), (timedelta(0), "more than 0"),
            (datetime(2030, 1, 1), "needs a zone"), (1e12, "100 years"),
            (datetime(9999, 1, 1, tzinfo=timezone.utc), "100 years"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, on_redis, expires, said):
        with pytest.raises(ArgumentError, match=said) as refused:
            frappe.enqueue(tasks.ping, expires=expires)
        assert "\n" not in str(refused.value)
        assert runtime.current().ledger.waiting("default") == 0

    def test_one_that_would_be_due_too_late_is_refused(self, on_redis):
        with pytest.raises(ArgumentError, match="expired"):
            frappe.enqueue_in(60, tasks.ping, expires=59)
        with pytest.raises(ArgumentError, match="expired"):
            frappe.enqueue_at(in_(hours=2), tasks.ping, expires=in_(hours=1))
        job = frappe.enqueue_in(60, tasks.ping, expires=120)
        with pytest.raises(ArgumentError, match="expires before"):
            job.move(in_(hours=1))
        job.move(in_(seconds=90))

    def test_each_of_many_has_its_own(self, on_redis):
        items = [{"method": tasks.ping, "expires": 60 * n} for n in (1, 2)]
        one, two = frappe.enqueue_many(items)
        assert two.expires_at - one.expires_at == 60

    def test_it_is_shown(self, on_redis):
        site = ("--site", "site1")
        one = on_redis.run("enqueue", "acme.tasks.ping", *site, "--expires", "2h").stdout.strip()
        shown = on_redis.run("jobs", "show", one, *site, "--format", "json").stdout
        at = datetime.fromisoformat(json.loads(shown)[0]["expires_at"])
        assert timedelta(hours=1, minutes=59) < at - in_() < timedelta(hours=2)
        assert (
            at.isoformat(timespec="milliseconds") in on_redis.run("jobs", "show", one, *site).stdout
        )


class TestTooLate:
    def test_it_is_cancelled_and_never_runs(self, on_each_broker):
        bench = on_each_broker
        late = frappe.enqueue(
            tasks.add, x=1, job_id="it", expires=SOON, on_failure=tasks.on_failure
        )
        frappe.enqueue(tasks.add, x=2, expires=600)
        with bench.process("worker", "--queue", "default", "--burst") as worker:
            with pytest.raises(JobFailed, match="cancelled: expired"):
                late.wait(30)
            assert worker.process.wait(30) == 0
            assert "has expired before it was begun" in worker.log
        assert [mark["x"] for mark in bench.marks("add")] == [2]
        assert (late.status, late.reason, late.attempt) == ("cancelled", "expired", 0)
        assert not frappe.is_job_enqueued("it")
        here = runtime.current()
        assert (here.broker.depth("default"), here.ledger.waiting("default")) == (0, 0)
        assert bench.marks("on_failure") == []
        again = late.requeue()  # whoever asks for that wants it run
        run_jobs()
        assert (again.get_status(), again.expires_at) == ("finished", None)

    def test_its_background_task_says_so(self, on_redis):
        job = frappe.enqueue(tasks.ping, track_job=True, expires=SOON)
        frappe.db.commit()
        run_jobs()
        assert frappe.db.get(BackgroundTask, job.task_id).status == "Cancelled"

    def test_of_a_job_for_later_and_of_one_after_a_commit(self, on_redis):
        later = frappe.enqueue_in(0.01, tasks.add, x=1, expires=0.02)
        frappe.enqueue(tasks.add, x=2, expires=SOON, enqueue_after_commit=True)
        run_jobs(commit=True, clock=moved(60))
        assert (later.get_status(), on_redis.marks("add")) == ("cancelled", [])

    def test_by_a_clock_that_tests_move(self, on_redis):
        jobs = [frappe.enqueue(tasks.ping, expires=hours * 3600) for hours in (1, 3)]
        run_jobs(clock=moved(2 * 3600))
        assert [job.get_status() for job in jobs] == ["cancelled", "finished"]

    def test_its_id_is_free_before_a_worker_comes_to_it(self, ledger):
        options = {"job_id": "it", "deduplicate": True}
        late = frappe.enqueue(tasks.ping, expires=60, **options)
        assert frappe.enqueue(tasks.ping, **options) is None
        ledger.redis.hset(ledger._key("record", late.message_id), "expires", time.time() - 1)
        newer = frappe.enqueue(tasks.ping, **options)
        run_jobs(clock=moved(60))
        assert [job.get_status() for job in (late, newer)] == ["cancelled", "finished"]
        assert late.reason == "expired"

    def test_so_it_is_for_one_that_looks(self, ledger):
        now = time.time()
        for n, (at, taken) in enumerate([(None, True), (now + 60, True), (now - 1, False)]):
            recorded(ledger, str(n), expires_at=at)
            assert ledger.is_taken(message(str(n))) is taken

    def test_of_those_that_wait_for_a_limit_the_next_one_comes_at_once(self, ledger):
        ledger.set_limits({"site": "running=1"})
        first, late, next_one = (recorded(ledger, expires_at=time.time() + 60) for _ in range(3))
        assert ledger.start(first, SOMEBODY) == Attempt(1)
        assert all(ledger.start(one, SOMEBODY).limited for one in (late, next_one))
        ledger.end(first, FINISHED)
        assert came(ledger) == [late.id]
        assert ledger.start(replace(late, expires_at=time.time() - 1), SOMEBODY) == TOO_LATE
        ledger.end(late, CANCELLED)
        assert came(ledger) == [next_one.id]
        assert ledger.start(next_one, SOMEBODY) == Attempt(1)


def came(ledger):
    due = ledger.due().due
    ledger.send_due(due)
    return [one.message.id for one in due]


def moved(seconds):
    clock = Clock()
    clock.move(seconds=seconds)
    return clock


class TestRetries:
    def test_one_that_would_come_too_late_fails_at_once(self, on_redis):
        jobs = [
            frappe.enqueue(tasks.fail, retry=frappe.Retry(3, 600), expires=expires)
            for expires in (300, 900)
        ]
        run_jobs(fail_fast=False)
        assert [job.get_status() for job in jobs] == ["failed", "queued"]
        assert jobs[0].reason == "ValueError: on purpose"

    def test_one_whose_turn_comes_too_late_is_cancelled(self, on_redis):
        job = frappe.enqueue(tasks.fail, retry=frappe.Retry(3, 600), expires=900)
        run_jobs(fail_fast=False)
        run_jobs(clock=moved(1000))
        assert (job.get_status(), job.reason, job.attempt) == ("cancelled", "expired", 1)
        assert [one["reason"] for one in job.attempts] == ["ValueError: on purpose"]


class TestBegunInTime:
    """An earlier run may have done a part of it."""

    def begin(self, ledger, one):
        return ledger.start(replace(one, expires_at=time.time() - 1), SOMEBODY)

    def test_it_goes_on_when_its_process_has_died(self, ledger):
        one = begun(ledger, expires_at=time.time() + 60)
        ledger.redis.delete(ledger._key("lease", one.id))
        assert self.begin(ledger, one) == Attempt(2)
        ledger.wait_for_retry(one, 0, {}, counts=False)  # its database is out of reach
        come_due(ledger, one)
        assert self.begin(ledger, one) == Attempt(3)

    def test_it_goes_on_when_it_was_handed_back(self, ledger):
        one = begun(ledger, "it", expires_at=time.time() + 60)
        ledger.hand_back(one, SOMEBODY)
        assert not ledger.read(one.id).has_expired(time.time() + 99)
        ledger.redis.hset(ledger._key("record", one.id), "expires", time.time() - 1)
        assert not ledger.record([Sending(message("it"), claim=True)])[0]
        assert self.begin(ledger, one) == Attempt(2)

    def test_it_goes_on_when_it_was_put_off(self, on_redis):
        here = runtime.current()
        tasks.install()
        frappe.new_doc("Account", name="cash").insert()
        frappe.db.commit()
        job = frappe.enqueue(once.loop, rows="list", count=2, every=1, expires=60)
        [record] = here.listing.waiting(["site1"], ["default"])
        with pytest.raises(RunAgain):
            here.executor.execute(
                record.message, holder=SOMEBODY, timed_out=KeyboardInterrupt, must_stop=lambda: True
            )
        run_jobs(clock=moved(3600))
        assert (job.get_status(), job.attempt) == ("finished", 2)
        assert frappe.get_doc("Account", "cash").balance == 2

    def test_not_if_it_could_not_even_begin(self, ledger):
        one = begun(ledger, expires_at=time.time() + 60)
        ledger.wait_for_retry(one, 0, {"reason": "its database is out of reach"}, counts=False)
        come_due(ledger, one)
        assert self.begin(ledger, one) == TOO_LATE

    def test_a_record_that_was_lost_expires_as_well(self, ledger):
        one = message(expires_at=time.time() - 1)
        assert ledger.start(one, SOMEBODY) == TOO_LATE
        assert not ledger.is_taken(one)
        assert ledger.start(recorded(ledger), SOMEBODY) == Attempt(1)
