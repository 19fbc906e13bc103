"""What the doctor says of workers, queues, jobs and clocks, each made to be like that."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from acme import tasks
from doctored import clock_ahead, composed, lose, one, send, worst
from kombu import Connection

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.cli.doctor import parts_of
from frappe_jobs.doctor import examine
from frappe_jobs.doctor.checkup import Checkup
from frappe_jobs.doctor.mending import mended
from frappe_jobs.message import Sending
from frappe_jobs.testing import wait_until

APPS = Path(__file__).parents[1] / "apps"


def workers():
    return [*Checkup(parts_of(runtime.current())).workers()]


def jobs(*sites):
    return [*Checkup(parts_of(runtime.current()), sites or None).jobs()]


class TestWorkers:
    def test_without_one_it_is_a_warning_and_with_jobs_that_wait_an_error(self, bench):
        none = one(workers(), "No worker is online: no job runs.")
        assert (none.level, none.cure) == ("warning", "Start one: frappe-jobs worker.")
        send()
        send("site2", queue="long")
        assert one(workers(), "No worker is online for 2 waiting jobs.").level == "error"

    def test_a_queue_that_nobody_serves_is_named(self, on_each_broker):
        with on_each_broker.worker("--queue", "default", "--concurrency", "2"):
            found = workers()
            assert "1 worker online, with 2 processes: default." in one(found, "online").what
            assert {level for level, _ in worst(found)} == {"warning"}
            send(queue="long")
            error = one(workers(), "No worker serves the queue 'long', with its 1 waiting job.")
            assert error.level == "error"
            assert error.cure == "Start one for it: frappe-jobs worker --queue long."
            assert one(workers(), "serves the queue 'short': jobs sent there").level == "warning"

    def test_a_worker_of_another_bench_serves_nothing_here(self, bench, make_bench):
        other = make_bench()
        with other.worker():
            assert one(workers(), "No worker is online")
        other.use()
        bench.use()

    def test_jobs_that_wait_for_long_are_told_by_queue_with_the_oldest(self, bench):
        send(ago=500)
        send("site2", queue="long", ago=1400)
        found = workers()
        assert "Jobs that wait: short 0, default 1, long 1." in one(found, "Jobs that wait").what
        assert not any("has waited" in what for _, what in worst(found))
        send("site2", ago=3 * 3600)
        send(ago=700, at_front=True)
        send(queue="long", ago=1600)
        found = workers()
        default, long = one(found, "In the queue 'default'"), one(found, "In the queue 'long'")
        assert (
            "acme.tasks.ping of site2 has waited for 3 h; for over 10 min: 2 jobs." in default.what
        )
        assert "for 26 min; for over 25 min: 1 job." in long.what
        assert (default.level, "--concurrency" in default.cure) == ("warning", True)

    @pytest.mark.parametrize("seconds", [60, -100])
    def test_a_job_is_late_by_its_next_attempt_not_by_its_first(self, bench, seconds):
        job = send(ago=3 * 3600)
        ledger = runtime.current().ledger
        record = ledger.read(job.message_id)
        ledger.start(record.message, "a worker")
        ledger.wait_for_retry(record.message, seconds, {})
        assert not any("has waited" in what for _, what in worst(workers()))

    def test_what_is_due_and_sent_by_nobody_is_an_error(self, bench):
        with frappe.site("site1"):
            jobs = [frappe.enqueue_in(600, tasks.ping) for _ in range(3)]
        assert not any("should have been sent" in what for _, what in worst(workers()))
        ledger = runtime.current().ledger
        for job in jobs[:2]:
            ledger.reschedule(ledger.read(job.message_id).message, time.time() - 70)
        found = one(workers(), "should have been sent")
        assert (found.level, found.what[:7]) == ("error", "2 jobs ")


class TestLostJobs:
    def test_on_redis_one_whose_message_is_gone_is_an_error_that_fix_mends(self, on_redis):
        lost = send(ago=90, job_id="lost")
        elsewhere = send("site2", ago=90, job_id="elsewhere")
        lose(on_redis)
        kept = send(ago=90)
        with frappe.site("site1"):
            assert frappe.enqueue(tasks.ping, job_id="lost", deduplicate=True) is None
        error = one(jobs("site1"), "whose message the broker has lost")
        assert error.level == "error" and "--fix" in error.cure
        assert "1 job whose message the broker has lost: lost (acme.tasks.ping" in error.what
        assert "2 jobs" in one(jobs(), "the broker has lost").what
        done = one(mended(jobs("site1")), "sent again")
        assert (done.level, done.what.startswith("Mended: sent again: 1 job")) == ("ok", True)
        assert worst(jobs("site1")) == []
        assert "elsewhere" in one(jobs(), "the broker has lost").what
        list(mended(jobs()))
        assert worst(jobs()) == []
        with on_redis.worker("--queue", "default"):
            assert [job.wait(10) for job in (lost, elsewhere, kept)] == ["pong"] * 3

    def test_one_that_was_never_sent_is_an_error_that_fix_mends(self, make_bench):
        bench = make_bench(frappe_jobs_lease=2)
        bench.use()
        here = runtime.current()
        message = composed("site1", job_id="unsent")
        here.ledger.record([Sending(message)])  # and then its process died
        assert not any("never sent" in what for _, what in worst(jobs()))
        error = wait_until(lambda: [one for one in jobs() if "never sent" in one.what], 6)[0]
        assert (error.level, "unsent (acme.tasks.ping on site1)" in error.what) == ("error", True)
        assert len(worst(jobs())) == 1  # it is not lost as well, which would send it twice
        assert one(mended(jobs()), "sent again: 1 job never sent").level == "ok"
        assert here.broker.depth("default") == 1
        assert worst(jobs()) == []
        with bench.worker("--queue", "default"):
            assert here.jobs.of_message(message).wait(10) == "pong"

    def test_on_rabbitmq_it_counts_as_lost_after_its_time_and_fix_sends_it(
        self, make_bench, amqp_url
    ):
        bench = make_bench(celery_broker_url=amqp_url, frappe_jobs_claim_ttl=60)
        bench.use()
        waiting, lost = send(ago=30), send(ago=90)
        found = one(jobs(), "their messages may be lost")
        assert found.what.startswith("1 job waited for over 60 s, so ")
        assert (found.level, lost.id in found.what) == ("warning", True)
        list(mended(jobs()))
        assert worst(jobs()) == []
        with Connection(amqp_url) as connection:
            queue = connection.default_channel.queue_declare(f"{bench.id}:default", passive=True)
            assert queue.message_count == 3
        with bench.worker("--queue", "default"):
            assert [job.wait(10) for job in (waiting, lost)] == ["pong", "pong"]

    def test_it_is_left_alone_while_its_message_is_there(self, bench):
        for _ in range(3):
            send(ago=200)
        assert worst(jobs()) == []


class TestJobsThatBegan:
    def test_one_whose_worker_is_gone_is_told_until_another_one_begins_it(self, make_bench):
        bench = make_bench(frappe_jobs_lease=2)
        bench.use()
        until = bench.path / "until"
        with bench.worker("--queue", "default") as worker:
            job = send(method=tasks.hold, arguments={"until": str(until)})
            wait_until(lambda: job.get_status() == "started", 10)
            assert worst(jobs()) == []
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        found = wait_until(lambda: [one for one in jobs() if "no process holds" in one.what], 10)
        assert (found[0].level, job.id in found[0].what) == ("warning", True)
        assert "the queue 'default'" in found[0].cure
        until.touch()
        with bench.worker("--queue", "default"):
            job.wait(15)
        assert worst(jobs()) == []

    def test_one_that_killed_its_process_is_told_while_it_runs(self, make_bench):
        bench = make_bench(frappe_jobs_lease=2)
        bench.use()
        until = bench.path / "until"
        with bench.worker("--queue", "default"):
            job = send(method=tasks.die_first, arguments={"until": str(until)}, job_id="again")
            try:
                wait_until(lambda: bench.marks("hold"), 30)
                found = one(jobs(), "killed their process before")
            finally:
                until.touch()
            job.wait(10)
        assert "again (acme.tasks.die_first on site1), 1 of 3 times" in found.what
        assert (found.level, "out of memory" in found.cure) == ("warning", True)

    def test_one_that_ended_as_it_killed_its_processes_is_told_among_the_failed(self, make_bench):
        bench = make_bench(frappe_jobs_lease=2, frappe_jobs_max_starts=1)
        bench.use()
        with bench.worker("--queue", "default"):
            job = send(method=tasks.die, job_id="always")
            wait_until(lambda: job.get_status() == "failed", 30)
        found = jobs()
        assert "1 acme.tasks.die (default)" in one(found, "1 job failed within a day").what
        assert "always (acme.tasks.die on site1)" in one(found, "each of their processes").what


class TestFailedJobs:
    def test_those_of_a_day_are_counted_by_queue_and_method_and_site(self, bench):
        with bench.worker():
            for site, queue in (("site1", "default"), ("site1", "short"), ("site2", "default")):
                with pytest.raises(frappe.JobFailed):
                    send(site, tasks.fail, queue=queue).wait(10)
        found = one(jobs("site2"), "1 job failed within a day: 1 acme.tasks.fail (default).")
        assert (found.level, found.cure) == (
            "warning", "frappe-jobs --site site2 jobs list --status failed",
        )  # fmt: skip
        found = one(jobs(), "3 jobs failed within a day")
        assert "2 acme.tasks.fail (default), 1 acme.tasks.fail (short)." in found.what
        assert found.cure == "frappe-jobs --site all jobs list --status failed"

    def test_older_ones_are_not_counted(self, bench):
        job = send()
        ledger = runtime.current().ledger
        message = ledger.read(job.message_id).message
        ledger.end(message, "failed", {"reason": "on purpose"})
        assert one(jobs(), "1 job failed within a day")
        ledger.redis.zadd(ledger._key("failed", "default"), {message.id: time.time() - 90_000})
        assert one(jobs(), "No job has failed within a day")


def test_messages_that_were_no_jobs_are_told_for_a_day(bench):
    here = runtime.current()
    here.app.send_task("os.system", ["true"], queue=f"{bench.id}:default")
    with bench.worker("--queue", "default"):
        wait_until(here.ledger.kept_aside, 10)
    found = one(jobs(), "1 message kept aside")
    assert (found.level, "'os.system'" in found.what) == ("warning", True)
    key = here.ledger._key("damaged")
    raw = here.ledger.redis.lindex(key, 0)
    here.ledger.redis.lset(key, 0, raw.replace('"at": "1', '"at": "0'))
    assert one(jobs(), "1 message kept aside").level == "ok"


class TestClocks:
    def clocks(self):
        checkup = Checkup(parts_of(runtime.current()))
        list(checkup.servers())
        list(checkup.workers())
        return [*checkup.clocks()]

    def test_they_agree_on_one_machine(self, shared):
        (found,) = self.clocks()
        assert (found.level, "within 20 s" in found.what) == ("ok", True)
        assert "this machine, the worker " in found.what

    @pytest.mark.parametrize(
        ("seconds", "level", "said"), [(25, "warning", "ahead of"), (-70, "error", "behind")]
    )
    def test_a_workers_that_is_wrong_is_told(self, on_each_broker, seconds, level, said):
        with clock_ahead(on_each_broker, seconds):
            with on_each_broker.worker("--queue", "default"):
                (found,) = self.clocks()
        assert found.level == level
        assert "The clock of the worker default." in found.what
        assert said in found.what and "NTP" in found.cure

    def test_this_machines_that_is_wrong_is_told(self, bench):
        with clock_ahead(bench, -30):
            done = bench.run("doctor")
        assert "The clock of this machine is 30 s behind Redis's" in done.stdout
        assert done.returncode == 0, done.stdout


def test_a_guests_settings_that_break_promises_are_told(make_bench):
    bench = make_bench(frappe_jobs_celery_app="acme_celery")
    shutil.copy(APPS / "acme_celery.py", bench.path)
    bench.variables |= {"ACME_BROKER": bench.redis_url, "ACME_PREFIX": bench.id}
    lines = bench.run("doctor").stdout.splitlines()
    broken = [line for line in lines if "A job of the queue 'long' may run for 1500 s" in line]
    assert len(broken) == 1 and broken[0].startswith("warning")
    assert sum("A job at the front goes to the front" in line for line in lines) == 1


def test_the_worst_comes_first(bench):
    send()
    levels = [one.level for one in examine(parts_of(runtime.current()))]
    assert levels == sorted(levels, key=["error", "warning", "ok"].index)
    assert levels[0] == "error"
