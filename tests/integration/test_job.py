"""The caller's handle, ids, and what can be asked about jobs; real Redis, real worker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.testing import wait_until


@pytest.fixture
def site1(shared):
    with frappe.site("site1") as session:
        yield session


@pytest.fixture
def idle(bench):
    """A bench without any worker: what is enqueued waits."""
    with frappe.site("site1"):
        yield bench


@pytest.fixture
def busy(shared, tmp_path):
    """The shared bench, its worker's two processes held by jobs until the test ends."""
    until = tmp_path / "until"
    with frappe.site("site1"):
        held = [frappe.enqueue(tasks.hold, until=str(until)) for _ in range(2)]
        for job in held:
            wait_until(lambda job=job: job.get_status() == "started", 10)
        yield shared
        until.touch()
        for job in held:
            job.wait(10)


class TestWaiting:
    def test_wait_returns_the_result(self, site1):
        job = frappe.enqueue(tasks.sleep, seconds=0.2, name="rested")
        assert job.wait() == "rested"
        assert time.time() - job.ended_at < 0.5  # woken, not looked at now and then
        assert job.result == "rested"
        assert job.started_at and job.ended_at and job.ended_at - job.started_at > 0.2

    def test_wait_raises_what_a_failed_job_says(self, site1):
        job = frappe.enqueue(tasks.fail, text="no money")
        with pytest.raises(frappe.JobFailed, match="ValueError: no money") as caught:
            job.wait(10)
        assert caught.value.details["job"] is job
        assert (job.status, job.reason) == ("failed", "ValueError: no money")
        assert "raise ValueError(text)" in job.traceback

    def test_wait_gives_up_and_the_job_goes_on(self, site1):
        job = frappe.enqueue(tasks.sleep, seconds=1.0)
        with pytest.raises(frappe.JobTimeout, match="after 0.1 s"):
            job.wait(0.1)
        job.wait(10)

    def test_a_job_that_waits_knows_its_place(self, idle):
        jobs = [frappe.enqueue(tasks.ping) for _ in range(3)]
        front = frappe.enqueue(tasks.ping, at_front=True)
        assert [job.position for job in (front, *jobs)] == [0, 1, 2, 3]
        assert {job.get_status() for job in jobs} == {"queued"}

    @pytest.mark.parametrize("keyword", ["stage", "title", "description"])
    def test_progress_can_be_read_while_it_runs_and_after(self, site1, keyword):
        job = frappe.enqueue(tasks.progress, **{keyword: "halfway there"})
        job.wait(10)
        assert (job.progress, job.stage) == (40.0, "halfway there")

    def test_outside_of_a_job_there_is_no_current_one_and_progress_goes_nowhere(self, site1):
        assert frappe.get_current_job() is None
        frappe.publish_progress(50)


class TestIds:
    def test_an_id_is_private_to_its_site(self, site1):
        one = frappe.enqueue(tasks.add, x=1, job_id="mine")
        with frappe.site("site2"):
            assert frappe.get_job("mine") is None
            two = frappe.enqueue(tasks.add, x=2, job_id="mine", deduplicate=True)
            assert two.wait(10) == 2
        assert one.wait(10) == 1
        assert (frappe.get_job("mine").site, frappe.get_job("mine", "site2").site) == (
            "site1",
            "site2",
        )

    def test_a_made_id_finds_its_job_only_on_its_site(self, site1):
        job = frappe.enqueue(tasks.ping)
        assert frappe.get_job(job.id).message_id == job.message_id
        assert frappe.get_job(job.id, "site2") is None

    def test_used_again_it_means_the_newest_message(self, idle):
        old, new = (frappe.enqueue(tasks.add, x=x, job_id="twice") for x in (1, 2))
        assert frappe.get_job("twice").message_id == new.message_id != old.message_id
        old.cancel()
        assert frappe.get_job("twice").message_id == new.message_id
        ledger = runtime.current().ledger
        assert ledger.redis.ttl(ledger._key("job", "site1", "twice")) == -1  # for as long as it is
        assert frappe.get_job_status("twice") == "queued"

    def test_deduplicate_needs_an_id(self, site1):
        with pytest.raises(errors.ArgumentError, match="job_id"):
            frappe.enqueue(tasks.ping, deduplicate=True)

    def test_deduplicate_sends_nothing_while_the_job_waits(self, idle):
        frappe.enqueue(tasks.ping, job_id="once", deduplicate=True)
        assert frappe.enqueue(tasks.ping, job_id="once", deduplicate=True) is None
        assert runtime.current().broker.depth("default") == 1
        assert frappe.is_job_enqueued("once")

    def test_deduplicate_heeds_a_job_that_was_sent_without_it(self, idle):
        frappe.enqueue(tasks.ping, job_id="without")
        assert frappe.enqueue(tasks.ping, job_id="without", deduplicate=True) is None

    def test_deduplicate_sends_nothing_while_the_job_runs(self, site1):
        job = frappe.enqueue(tasks.sleep, seconds=0.5, job_id="runs", deduplicate=True)
        wait_until(lambda: job.get_status() == "started")
        assert frappe.enqueue(tasks.ping, job_id="runs", deduplicate=True) is None
        job.wait(10)

    @pytest.mark.parametrize("end", ["finished", "failed", "cancelled"])
    def test_the_id_is_free_again_on_any_end(self, site1, end):
        method = tasks.fail if end == "failed" else tasks.ping
        job = frappe.enqueue(method, job_id=f"ends {end}", deduplicate=True)
        if end == "cancelled":
            job.cancel()
        wait_until(lambda: job.get_status() not in ("queued", "started"), 10)
        again = frappe.enqueue(tasks.ping, job_id=f"ends {end}", deduplicate=True)
        assert again.wait(10) == "pong"
        assert not frappe.is_job_enqueued(f"ends {end}")

    def test_the_end_of_an_older_message_does_not_free_the_newer_ones_id(self, idle):
        old, _ = (frappe.enqueue(tasks.ping, job_id="both") for _ in range(2))
        old.cancel()
        assert frappe.enqueue(tasks.ping, job_id="both", deduplicate=True) is None


class TestCancel:
    def test_a_waiting_job_never_starts(self, busy):
        job = frappe.enqueue(tasks.echo, tag="cancelled")
        assert job.cancel() is True
        assert (job.status, job.reason, job.position) == (
            "cancelled",
            "cancelled",
            None,
        )
        assert runtime.current().broker.depth("default") == 0
        assert {"tag": "cancelled"} not in [mark["kwargs"] for mark in busy.marks("echo")]
        assert job.cancel() is False

    def test_a_message_that_could_not_be_taken_away_is_dropped_by_its_record(self, busy, tmp_path):
        job = frappe.enqueue(tasks.echo, tag="dropped")
        ledger = runtime.current().ledger
        ledger.end(ledger.read(job.message_id).message, "cancelled")
        assert runtime.current().broker.depth("default") == 1
        (tmp_path / "until").touch()
        assert frappe.enqueue(tasks.ping).wait(10) == "pong"  # behind it in the queue
        assert {"tag": "dropped"} not in [mark["kwargs"] for mark in busy.marks("echo")]

    def test_a_running_job_is_killed_and_its_worker_goes_on(self, site1, shared):
        job = frappe.enqueue(
            tasks.sleep, seconds=60, name="to be killed", job_id="to be killed",
            on_failure=tasks.on_failure,
        )  # fmt: skip
        wait_until(lambda: job.get_status() == "started")
        mark = wait_until(lambda: [one for one in shared.marks("sleep") if one["name"] == job.id])
        assert job.cancel() is True
        assert (job.status, job.reason) == ("cancelled", "cancelled while it ran")
        wait_until(lambda: not Path(f"/proc/{mark[0]['pid']}").exists())
        assert [frappe.enqueue(tasks.ping).wait(10) for _ in range(4)] == ["pong"] * 4
        assert job.get_status() == "cancelled"
        assert job.id not in [mark["job"] for mark in shared.marks("on_failure")]


class TestAgain:
    def test_a_failed_job_is_run_again_with_its_arguments(self, site1):
        job = frappe.enqueue(tasks.fail, text="twice", job_id="again")
        with pytest.raises(frappe.JobFailed):
            frappe.get_job("again").wait(10)
        assert job.status == "queued"  # as this handle knew it last
        again = job.requeue()
        assert (again.id, again.status) == ("again", "queued")
        assert again.message_id != job.message_id
        with pytest.raises(frappe.JobFailed, match="twice"):
            again.wait(10)
        assert frappe.get_job("again").message_id == again.message_id
        with pytest.raises(errors.JobNotFound):  # in its new place alone
            job.get_status()

    def test_a_job_that_waits_is_not_run_again(self, idle):
        with pytest.raises(errors.JobError, match="queued"):
            frappe.enqueue(tasks.ping).requeue()

    def test_a_deleted_job_is_gone_and_never_runs(self, idle):
        job = frappe.enqueue(tasks.ping, job_id="gone")
        job.delete()
        assert frappe.get_job("gone") is None
        assert runtime.current().broker.depth("default") == 0
        for ask in (job.get_status, job.wait):
            with pytest.raises(errors.JobNotFound):
                ask()


class TestKept:
    @pytest.mark.parametrize("job_id", [None, "named"])
    @pytest.mark.parametrize("end", ["finished", "failed", "cancelled"])
    def test_of_an_ended_job_nothing_stays_for_ever(self, site1, shared, end, job_id):
        method = tasks.fail if end == "failed" else tasks.ping
        job_id = job_id and f"{job_id} {end}"
        job = frappe.enqueue(method, job_id=job_id, deduplicate=bool(job_id))
        if end == "cancelled":
            job.cancel()
        wait_until(lambda: job.get_status() not in ("queued", "started"), 10)
        server, prefix = (
            runtime.current().ledger.redis,
            runtime.current().settings.prefix,
        )
        left = {key: server.ttl(key) for key in server.scan_iter(f"*{shared.id}*", count=1000)}
        ours = {name: ttl for name, ttl in left.items() if name.endswith(job.message_id)}
        expected = {
            f"{prefix}record:{job.message_id}",
            f"{prefix}celery-task-meta-{job.message_id}",
        }
        if job_id:
            pointers = {name: ttl for name, ttl in left.items() if name.endswith(job_id)}
            ours, expected = ours | pointers, expected | {f"{prefix}job:site1:{job_id}"}
        assert set(ours) == expected
        assert all(ttl > 0 for ttl in ours.values())

    def test_a_failed_job_keeps_arguments_error_and_traceback_for_a_week(self, site1):
        job = frappe.enqueue(tasks.fail, text="kept")
        with pytest.raises(frappe.JobFailed):
            job.wait(10)
        kept = frappe.get_job(job.id)
        assert (kept.kwargs, kept.reason) == ({"text": "kept"}, "ValueError: kept")
        ledger = runtime.current().ledger
        left = ledger.redis.ttl(ledger._key("record", job.message_id))
        assert 7 * 24 * 3600 - 60 < left <= 7 * 24 * 3600

    def test_a_finished_one_is_kept_ten_minutes(self, site1):
        job = frappe.enqueue(tasks.ping, job_id="short-lived")
        job.wait(10)
        ledger = runtime.current().ledger
        of_celery = f"{ledger._prefix}celery-task-meta-{job.message_id}"
        of_ours = ledger._key("record", job.message_id), ledger._key("job", "site1", job.id)
        for key in (*of_ours, of_celery):
            assert 540 < ledger.redis.ttl(key) <= 600
        found = [record.message.id for record in ledger.records("site1")]
        assert found.count(job.message_id) == 1

    def test_only_the_newest_failed_jobs_of_a_queue_are_kept(self, make_bench):
        bench = make_bench(rq_failed_jobs_limit=3)
        bench.use()
        with bench.worker("--queue", "default"), frappe.site("site1"):
            jobs = [frappe.enqueue(tasks.fail) for _ in range(5)]
            wait_until(lambda: not frappe.get_jobs("site1"), 10)
            assert [bool(frappe.get_job(job.id)) for job in jobs] == [
                False,
                False,
                True,
                True,
                True,
            ]


class TestLooking:
    def test_get_jobs_lists_what_waits_by_site_queue_and_key(self, idle):
        frappe.enqueue(tasks.add, "short", x=1)
        frappe.enqueue(tasks.ping, "long", job_name="pong?", event="nightly")
        with frappe.site("site2"):
            frappe.enqueue(tasks.ping, "long").cancel()
            frappe.enqueue(tasks.add, "long", x=3)
        assert frappe.get_jobs() == {
            "site1": ["acme.tasks.add", "acme.tasks.ping"], "site2": ["acme.tasks.add"],
        }  # fmt: skip
        assert frappe.get_jobs("site1", "long", "job_name") == {"site1": ["pong?"]}
        assert frappe.get_jobs(key="event") == {"site1": ["nightly"]}
        assert frappe.get_jobs(key="x") == {"site1": [1], "site2": [3]}
        with pytest.raises(errors.UnknownQueue):
            frappe.get_jobs(queue="nope")
        with pytest.raises(errors.SiteNotFound):
            frappe.get_jobs("nope")

    def test_of_a_job_that_never_was_nothing_is_known(self, site1):
        assert (frappe.get_job("x"), frappe.get_job_status("x")) == (None, None)
        assert not frappe.is_job_enqueued("x")


class TestLimits:
    def test_a_starved_job_goes_to_the_front_only_behind_more_than_16(self, idle):
        waiting = [frappe.enqueue(tasks.ping) for _ in range(16)]
        behind = frappe.enqueue(tasks.ping, at_front_when_starved=True)
        front = frappe.enqueue(tasks.ping, at_front_when_starved=True)
        assert (front.position, waiting[0].position, behind.position) == (0, 1, 17)

    def test_over_max_queued_jobs_enqueue_refuses(self, make_bench):
        make_bench(max_queued_jobs=2).use()
        with frappe.site("site1"):
            for queue in ("default", "default", "long"):
                frappe.enqueue(tasks.ping, queue)
            with pytest.raises(errors.QueueOverloaded, match="max_queued_jobs"):
                frappe.enqueue(tasks.ping)
            assert runtime.current().broker.depth("default") == 2
