"""The ledger's scripts, one call at a time, on a real Redis."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from celery.result import AsyncResult
from recorded import ANOTHER, SOMEBODY, begun, come_due, message, recorded

from frappe_jobs import runtime
from frappe_jobs.background_task.ends import UnwrittenEnds
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, Attempt, Refusal
from frappe_jobs.ledger.scripts import RINGS
from frappe_jobs.message import Sending
from frappe_jobs.testing import wait_until

DAY = 24 * 3600


@pytest.fixture
def ledger(bench):
    return runtime.current().ledger


@pytest.fixture
def on_rabbitmq(ledger):
    """The ledger of a bench whose messages nobody can search."""
    return Ledger(ledger._settings, is_searchable=False)


def claimed(ledger, job_id, **values):
    """Whether that id was free for a job that claims it."""
    return ledger.record([Sending(message(job_id, **values), claim=True)]) == [True]


def holder(ledger, one):
    return ledger.redis.get(ledger._key("lease", one.id))


def is_running(ledger, one):
    return ledger.redis.zscore(ledger._key("running"), one.id) is not None


def tried_again(ledger, job):
    """Its attempt has failed, and the time of the next one has come."""
    ledger.wait_for_retry(job, 0, {})
    come_due(ledger, job)


def moved_on(ledger, job):
    """It was put back, its time has come, and this one sends it."""
    ledger.put_back(job, 0)
    wait_until(lambda: ledger.send_due(ledger.due().due) == [True])


class TestId:
    def test_it_is_taken_while_its_job_waits_or_runs(self, ledger):
        job = recorded(ledger, "the id")
        assert not claimed(ledger, "the id")
        ledger.start(job, SOMEBODY)
        assert not claimed(ledger, "the id")
        ledger.wait_for_retry(job, 60, {})
        assert not claimed(ledger, "the id")
        assert ledger.find("site1", "the id").message.id == job.id

    @pytest.mark.parametrize("status", [FINISHED, FAILED, CANCELLED])
    def test_it_is_free_once_its_job_has_ended(self, ledger, status):
        ledger.end(begun(ledger, "the id"), status)
        assert claimed(ledger, "the id")
        assert not claimed(ledger, "the id")

    def test_it_is_free_where_the_record_is_gone(self, ledger):
        job = recorded(ledger, "the id")
        ledger.redis.delete(ledger._key("record", job.id))
        assert claimed(ledger, "the id")

    def test_of_another_site_it_is_another_one(self, ledger):
        recorded(ledger, "the id")
        assert claimed(ledger, "the id", site="site2")

    def test_who_does_not_claim_it_takes_it_over(self, ledger):
        older, newer = recorded(ledger, "the id"), recorded(ledger, "the id")
        assert ledger.find("site1", "the id").message.id == newer.id
        assert ledger.start(older, SOMEBODY) == Attempt(1)  # both are run
        ledger.end(older, FINISHED)
        assert not claimed(ledger, "the id")

    def test_what_was_refused_leaves_nothing_behind(self, ledger):
        recorded(ledger, "the id")
        refused = message("the id")
        assert ledger.record([Sending(refused, claim=True)]) == [False]
        assert ledger.read(refused.id) is None
        assert len(ledger.records("site1")) == ledger.waiting("default") == 1

    def test_where_messages_can_be_found_a_job_that_waits_holds_it_for_ever(self, ledger):
        recorded(ledger, "the id", enqueued_at=time.time() - 30 * DAY)
        assert not claimed(ledger, "the id")

    def test_on_rabbitmq_one_that_waits_for_a_day_loses_it_and_is_superseded(self, on_rabbitmq):
        recent = recorded(on_rabbitmq, "recent", enqueued_at=time.time() - DAY + 60)
        lost = recorded(on_rabbitmq, "lost", enqueued_at=time.time() - DAY - 60)
        assert not claimed(on_rabbitmq, "recent")
        assert claimed(on_rabbitmq, "lost")
        assert on_rabbitmq.start(lost, SOMEBODY) == Refusal(superseded=True)
        assert on_rabbitmq.start(recent, SOMEBODY) == Attempt(1)

    def test_on_rabbitmq_the_day_of_a_retry_begins_when_it_is_due(self, on_rabbitmq):
        job = begun(on_rabbitmq, "the id", enqueued_at=time.time() - 2 * DAY)
        assert not claimed(on_rabbitmq, "the id")  # however long it runs
        on_rabbitmq.wait_for_retry(job, 60, {})
        assert not claimed(on_rabbitmq, "the id")


class TestDueTime:
    def due(self, ledger, name, **options):
        return ledger.record([Sending(message(), due=name, **options)]) == [True]

    def test_it_is_recorded_once(self, ledger):
        assert self.due(ledger, "site1:daily:1")
        assert not self.due(ledger, "site1:daily:1")
        assert self.due(ledger, "site1:daily:2")
        assert len(ledger.records("site1")) == 2

    def test_its_marker_stays_for_a_day_though_the_job_has_ended(self, ledger):
        job = message()
        ledger.record([Sending(job, due="site1:daily:1")])
        ledger.end(job, FINISHED)
        assert not self.due(ledger, "site1:daily:1")
        assert DAY - 60 < ledger.redis.ttl(ledger._key("due", "site1:daily:1")) <= DAY


class TestPlain:
    """Of most messages nothing more is asked: for them there is a shorter script."""

    def left(self, ledger, one, sending):
        """What its recording leaves in Redis, without its id."""
        push = ledger._key("a list"), "a text", ledger._key("a bell")
        assert sending.is_plain is not sending.claim
        for known in (1, 2):
            assert ledger.record([sending.pushed(push)]) == [known]
        redis, found = ledger.redis, {}
        for key in redis.scan_iter(ledger._key("*")):
            kind = redis.type(key)
            found[key] = (
                redis.hgetall(key) if kind == "hash" else
                redis.zrange(key, 0, -1, withscores=True) if kind == "zset" else
                redis.lrange(key, 0, -1) if kind == "list" else redis.get(key)
            )  # fmt: skip
        redis.delete(*found)
        return str(sorted(found.items())).replace(one.id, "its id")

    def test_it_leaves_what_the_longer_one_leaves(self, ledger):
        now = time.time()
        for values in ({}, {"at_front": True}):
            one, other = (message(enqueued_at=now, **values) for _ in range(2))
            longer = self.left(ledger, one, Sending(one, claim=True))
            assert longer == self.left(ledger, other, Sending(other))
            assert longer.count("its id") == 5 and "a text" in longer


class TestUnsent:
    def unsent(self, ledger, later=60):
        return [record.message.id for record in ledger.unsent(time.time() + later)]

    def test_what_was_recorded_without_its_message_is_known_until_it_is_sent(self, ledger):
        one, two = recorded(ledger), recorded(ledger)
        assert self.unsent(ledger) == [one.id, two.id]
        (first,) = ledger.unsent(time.time() + 60, limit=1)
        assert first.message.id == one.id
        assert self.unsent(ledger, later=-60) == []
        ledger.sent([one])
        assert self.unsent(ledger) == [two.id]

    def test_who_sent_a_message_before_does_not_say_that_the_next_one_was_sent(self, ledger):
        """Its job was refused by a limit meanwhile, and sent for: that message may be lost."""
        job, mover = recorded(ledger), Ledger(ledger._settings)
        moved_on(mover, job)
        ledger.sent([job])
        assert self.unsent(ledger) == [job.id]
        sweeper = Ledger(ledger._settings)
        sweeper.sending([job])
        mover.sent([job])
        assert self.unsent(ledger) == [job.id]
        sweeper.sent([job])
        assert self.unsent(ledger) == []

    def test_who_moves_what_was_sent_meanwhile_waits_for_its_own_message(self, ledger):
        job, mover = recorded(ledger), Ledger(ledger._settings)
        ledger.sending([job])  # as it is noted already
        ledger.sent([job])
        ledger.sending([job])  # it is noted no longer
        moved_on(mover, job)
        ledger.sent([job])
        assert self.unsent(ledger) == [job.id]
        mover.sent([job])
        assert self.unsent(ledger) == []

    def test_what_was_pushed_with_its_record_is_sent(self, ledger):
        push = ledger._key("a list"), "a text", ledger._key("a bell")
        for _ in range(20):
            assert ledger.record([Sending(message(), push=push)]) == [True]
        assert ledger.redis.lrange(push[0], 0, -1) == ["a text"] * 20
        assert ledger.redis.llen(push[2]) == RINGS  # enough to wake as many workers
        assert self.unsent(ledger) == []

    def test_what_has_begun_was_sent_and_waits_for_its_retry_only(self, ledger):
        job = begun(ledger)
        assert self.unsent(ledger) == []
        ledger.wait_for_retry(job, 120, {})
        assert self.unsent(ledger) == []

    def test_what_runs_is_sent_once_its_process_is_gone_and_forgotten_once_it_has_ended(
        self, ledger
    ):
        job = begun(ledger)
        assert self.unsent(ledger) == []
        ledger.release(job, SOMEBODY)
        assert self.unsent(ledger) == [job.id]
        ledger.end(job, FINISHED)
        assert self.unsent(ledger) == []
        assert ledger.redis.zcard(ledger._key("unsent")) == 0


class TestLease:
    def test_a_message_with_the_id_of_another_sites_is_refused(self, ledger):
        job = recorded(ledger)
        for forged in ({"site": "site2"}, {"method": "acme.tasks.add"}, {"user": "root"}):
            assert ledger.start(replace(job, **forged), SOMEBODY) == Refusal(forged=True)
        assert ledger.start(job, SOMEBODY) == Attempt(1)

    def test_the_process_that_holds_it_may_begin_again_at_once(self, ledger):
        job = begun(ledger)
        assert ledger.start(job, SOMEBODY) == Attempt(2)

    def test_another_one_is_told_how_long_it_lives(self, ledger):
        job = begun(ledger)
        assert ledger.start(job, ANOTHER).wait == pytest.approx(60, abs=2)
        assert holder(ledger, job) == SOMEBODY

    def test_a_job_that_was_begun_three_times_and_never_ended_is_not_begun_again(self, ledger):
        job = recorded(ledger)
        for number in (1, 2, 3):
            assert ledger.start(job, SOMEBODY) == Attempt(number)
            ledger.release(job, SOMEBODY)
        assert ledger.start(job, SOMEBODY) == Refusal(died=3)

    def test_an_attempt_that_ended_by_itself_makes_the_deaths_before_it_forgotten(self, ledger):
        job = recorded(ledger)
        for _ in range(2):
            ledger.start(job, SOMEBODY)
        tried_again(ledger, job)
        starts = [ledger.start(job, SOMEBODY) for _ in range(4)]
        assert starts == [Attempt(3, 1), Attempt(4, 1), Attempt(5, 1), Refusal(died=3)]

    def test_renewed_it_lives_its_whole_time_again(self, ledger):
        job = begun(ledger)
        ledger.redis.pexpire(ledger._key("lease", job.id), 1000)
        assert ledger.renew([(job.id, SOMEBODY)]) == {}
        assert ledger.redis.ttl(ledger._key("lease", job.id)) > 50

    def test_somebody_elses_cannot_be_renewed_and_it_is_told(self, ledger):
        ours, theirs = begun(ledger), begun(ledger)
        asked = [(ours.id, SOMEBODY), (theirs.id, ANOTHER)]
        assert ledger.renew(asked) == {(theirs.id, ANOTHER): False}
        assert holder(ledger, theirs) == SOMEBODY
        ledger.redis.set(ledger._key("lease", ours.id), ANOTHER)  # who has not begun it
        assert ledger.renew(asked[:1]) == {(ours.id, SOMEBODY): True}

    def test_what_waits_or_has_ended_is_not_leased_by_renewing(self, ledger):
        waiting, put_back, ended = recorded(ledger), begun(ledger), begun(ledger)
        ledger.wait_for_retry(put_back, 60, {})
        ledger.end(ended, FINISHED)
        jobs = [waiting, put_back, ended]
        assert ledger.renew([(one.id, SOMEBODY) for one in jobs]) == {}
        assert [holder(ledger, one) for one in jobs] == [None] * 3

    def test_one_that_is_gone_is_nobodys_and_comes_back_when_it_is_renewed(self, ledger):
        job = begun(ledger)
        ledger.redis.delete(ledger._key("lease", job.id))  # a Redis that was flushed
        assert ledger.renew([(job.id, SOMEBODY)]) == {}
        assert holder(ledger, job) == SOMEBODY

    def test_it_is_over_only_if_the_workers_clocks_say_so_as_well(self, ledger, monkeypatch):
        """After a failover to a Redis whose clock is ahead all seem to be over."""
        job = begun(ledger)
        began = time.time()
        for later in (0, 50):  # it is renewed then
            monkeypatch.setattr(time, "time", lambda at=began + later: at)
            ledger.renew([(job.id, SOMEBODY)])
            ledger.redis.delete(ledger._key("lease", job.id))
            assert ledger.start(job, ANOTHER).wait == pytest.approx(60, abs=2)
        monkeypatch.setattr(time, "time", lambda: began + 111)
        assert ledger.start(job, ANOTHER) == Attempt(2)

    def test_a_workers_clock_that_is_far_ahead_keeps_no_job_from_the_others(
        self, ledger, monkeypatch
    ):
        job, now = recorded(ledger), time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3600)
        ledger.start(job, SOMEBODY)
        monkeypatch.setattr(time, "time", lambda: now)
        ledger.redis.delete(ledger._key("lease", job.id))
        assert ledger.start(job, ANOTHER) == Attempt(2)

    def test_of_a_process_that_is_gone_it_is_over_at_once(self, ledger):
        job = begun(ledger)
        ledger.redis.delete(ledger._key("lease", job.id))
        ledger.release(job, SOMEBODY)
        assert ledger.start(job, ANOTHER) == Attempt(2)

    def test_only_its_holder_can_release_it(self, ledger):
        job = begun(ledger)
        ledger.release(job, ANOTHER)
        assert holder(ledger, job) == SOMEBODY
        ledger.release(job, SOMEBODY)
        assert holder(ledger, job) is None


class TestHandingBack:
    def test_the_job_waits_as_before_and_its_start_counts_as_no_death(self, ledger):
        behind = recorded(ledger, enqueued_at=time.time() + 1)
        job = begun(ledger)
        assert is_running(ledger, job)
        for number in range(2, 6):
            ledger.hand_back(job, SOMEBODY)
            assert (ledger.position(job), ledger.position(behind)) == (0, 1)
            assert (holder(ledger, job), is_running(ledger, job)) == (None, False)
            assert ledger.start(job, SOMEBODY) == Attempt(number)

    def test_nobody_else_can(self, ledger):
        job = begun(ledger)
        ledger.hand_back(job, ANOTHER)
        assert (ledger.read(job.id).status, holder(ledger, job)) == (
            "started",
            SOMEBODY,
        )

    def test_a_job_that_has_ended_stays_ended(self, ledger):
        job = begun(ledger)
        ledger.end(job, FINISHED)
        ledger.renew([(job.id, SOMEBODY)])  # the worker did not know yet
        ledger.hand_back(job, SOMEBODY)
        assert (ledger.read(job.id).status, ledger.position(job)) == ("finished", None)
        assert holder(ledger, job) is None


class TestRetry:
    def test_the_job_waits_for_its_time_then_in_its_queue_and_nobody_holds_it(self, ledger):
        job = begun(ledger, at_front=True)
        behind = recorded(ledger, enqueued_at=job.enqueued_at - 60)
        ledger.wait_for_retry(job, 60, {})
        assert (ledger.position(job), ledger.position(behind)) == (None, 0)
        assert (holder(ledger, job), is_running(ledger, job)) == (None, False)
        assert ledger.start(job, ANOTHER) == Refusal(delayed=True)
        come_due(ledger, job)
        assert (ledger.position(job), ledger.position(behind)) == (0, 1)
        assert ledger.start(job, ANOTHER) == Attempt(2, retries=1)

    def test_a_job_that_has_ended_stays_ended(self, ledger):
        job = begun(ledger)
        ledger.end(job, CANCELLED)
        ledger.wait_for_retry(job, 60, {})
        assert (ledger.read(job.id).status, ledger.position(job)) == ("cancelled", None)

    def test_the_next_attempt_begins_its_progress_anew(self, ledger):
        job = begun(ledger)
        ledger.note(job, {"progress": "40.0", "stage": "counting"})
        tried_again(ledger, job)
        assert ledger.read(job.id).progress == 40.0
        ledger.start(job, SOMEBODY)
        assert (ledger.read(job.id).progress, ledger.read(job.id).stage) == (None, None)


class TestEnd:
    def test_it_holds_nothing_of_an_attempt_before(self, ledger):
        job = begun(ledger)
        said = {
            "reason": "ValueError: x",
            "error": "ValueError",
            "traceback": "Traceback …",
        }
        ledger.wait_for_retry(job, 0, said)
        assert ledger.read(job.id).traceback == "Traceback …"
        ledger.start(job, SOMEBODY)
        ledger.end(job, FINISHED)
        record = ledger.read(job.id)
        assert (record.reason, record.error, record.traceback) == (None, None, None)

    def test_it_runs_no_longer_and_holds_no_lease(self, ledger):
        job = begun(ledger)
        assert ledger.end(job, FINISHED)
        assert (holder(ledger, job), is_running(ledger, job)) == (None, False)
        assert not ledger.end(job, FAILED)
        assert ledger.read(job.id).status == "finished"

    @pytest.mark.parametrize("status", [FINISHED, FAILED])
    def test_what_is_kept_no_longer_leaves_the_indexes(self, ledger, status):
        index = ledger._key(*("failed", "default") if status == FAILED else ("ended", "site1"))
        ledger.redis.zadd(index, {"long ago": time.time() - 8 * DAY})
        job = begun(ledger)
        ledger.end(job, status)
        assert ledger.redis.zrange(index, 0, -1) == [job.id]

    def test_a_failed_job_that_was_forgotten_takes_no_others_place(self, ledger):
        few = Ledger(replace(ledger._settings, failed_jobs_limit=2))
        jobs = [begun(few) for _ in range(3)]
        for job in jobs[:2]:
            few.end(job, FAILED)
        few.forget(jobs[1])
        few.end(jobs[2], FAILED)
        assert [few.read(job.id) is not None for job in jobs] == [True, False, True]

    def test_a_cancelled_job_is_revoked_to_celery(self, ledger):
        job = recorded(ledger)
        assert ledger.cancel([job], "not wanted") == [True]
        assert AsyncResult(job.id, app=runtime.current().app).state == "REVOKED"


class TestUnwrittenEnds:
    """Ends of tracked jobs, until their own records say so."""

    @pytest.fixture
    def ends(self, ledger):
        return UnwrittenEnds(ledger)

    def test_each_end_is_noted_in_the_step_that_ends_the_job_until_it_is_written(
        self, ledger, ends
    ):
        failed, cancelled = begun(ledger, task_id="t1"), recorded(ledger, task_id="t2")
        ledger.end(failed, FAILED, {"reason": "ValueError: x", "traceback": "Traceback …"})
        ledger.cancel([cancelled, recorded(ledger)], "purged")
        found = ends.of("site1")
        assert found.keys() == {failed.id, cancelled.id}
        one = found[failed.id]
        assert (one.task_id, one.status, one.exception) == ("t1", "failed", "Traceback …")
        assert (found[cancelled.id].exception, found[cancelled.id].queue) == ("purged", "default")
        assert ends.sites(["site2", "site1"]) == ["site1"]
        ends.written("site1", [failed.id])
        assert ends.of("site1").keys() == {cancelled.id}
        ends.written("site1", [cancelled.id])
        assert ends.sites(["site2", "site1"]) == []

    def test_what_is_written_already_or_had_ended_before_is_not(self, ledger, ends):
        job = begun(ledger, task_id="t1")
        assert ledger.end(job, FINISHED, {"result": "1"}, is_written=True)
        assert not ledger.end(job, FAILED, {"reason": "too late"})
        assert ledger.cancel([job], "too late") == [False]
        assert ends.of("site1") == {}
        assert ledger.read(job.id).result == 1

    def test_they_do_not_stay_for_ever(self, ledger, ends):
        ledger.end(begun(ledger, task_id="t1"), FINISHED)
        assert 29 * DAY < ledger.redis.ttl(ledger._key("unwritten", "site1")) <= 30 * DAY


class TestTombstones:
    """What ended does not run again, though its record is gone and its message comes back."""

    @pytest.fixture
    def ended(self, ledger):
        """One that ended in this way; its record has run out."""

        def end(how):
            job = begun(ledger)
            if how == CANCELLED:
                ledger.cancel([job], "cancelled")
            else:
                ledger.end(job, how, holder=SOMEBODY)
            ledger.redis.delete(ledger._key("record", job.id))
            return job

        return end

    @pytest.mark.parametrize("how", [FINISHED, FAILED, CANCELLED])
    def test_a_message_that_comes_back_is_dropped_however_often(self, ledger, ended, how):
        job = ended(how)
        assert [ledger.start(job, ANOTHER) for _ in range(2)] == [Refusal()] * 2
        assert ledger.read(job.id) is None

    @pytest.mark.parametrize("how, days", [(FINISHED, 3), (FAILED, 3), (CANCELLED, 30)])
    def test_for_longer_than_it_can_come_back(self, ledger, ended, how, days):
        ended(how)
        [bucket] = ledger.redis.keys(ledger._key("tombstones", "*"))
        assert (days - 1) * DAY < ledger.redis.ttl(bucket) <= days * DAY

    def test_a_retry_and_a_hand_back_are_no_ends(self, ledger):
        tried, handed = begun(ledger), begun(ledger)
        ledger.wait_for_retry(tried, 0, {})
        ledger.hand_back(handed, SOMEBODY)
        assert ledger.buried([tried, handed]) == set()
        assert ledger.redis.keys(ledger._key("tombstones", "*")) == []

    def test_what_could_not_be_cancelled_has_none(self, ledger):
        job = begun(ledger)
        assert ledger.cancel([job], "too late", waiting_only=True) == [False]
        assert ledger.buried([job]) == set()

    def test_a_message_may_be_dropped_though_nothing_is_known_of_it(self, ledger):
        lost, other = message(), message()
        ledger.bury([lost])
        assert ledger.buried([other, lost]) == {lost.id}
        assert ledger.start(lost, SOMEBODY) == Refusal()
        assert ledger.start(other, SOMEBODY) == Attempt(1, is_recorded_anew=True)

    def test_ids_that_others_make_have_tombstones_as_well(self, ledger):
        strange = message(id="a job of ours 💡", job_id="x")
        ledger.bury([strange])
        assert ledger.start(strange, SOMEBODY) == Refusal()

    def test_one_takes_64_bytes_at_most(self, ledger):
        many = [message() for _ in range(3_000)]
        ledger.bury(many)
        buckets = ledger.redis.keys(ledger._key("tombstones", "*"))
        used = sum(ledger.redis.memory_usage(bucket, samples=0) for bucket in buckets)
        assert used / len(many) <= 64


class TestTaken:
    def test_an_id_is_taken_while_its_job_waits_or_runs(self, ledger):
        job = recorded(ledger, "the id")
        again = message("the id")
        assert ledger.is_taken(again)
        ledger.start(job, SOMEBODY)
        assert ledger.is_taken(again)
        ledger.end(job, FINISHED)
        assert not ledger.is_taken(again)
        assert not ledger.is_taken(message("another id"))

    def test_on_rabbitmq_not_by_one_that_has_waited_for_a_day(self, on_rabbitmq):
        recorded(on_rabbitmq, "young")
        recorded(on_rabbitmq, "old", enqueued_at=time.time() - 2 * DAY)
        assert on_rabbitmq.is_taken(message("young"))
        assert not on_rabbitmq.is_taken(message("old"))


class TestLooking:
    def test_records_come_oldest_first_whatever_became_of_them(self, ledger):
        now = time.time()
        jobs = [begun(ledger, enqueued_at=now + number) for number in range(4)]
        for number, status in ((0, FINISHED), (2, FAILED)):
            ledger.end(jobs[number], status)
        found = [record.message.id for record in ledger.records("site1")]
        assert found == [job.id for job in jobs]

    def test_the_oldest_is_at_the_front_or_behind(self, ledger):
        assert ledger.oldest("default") is None
        moments = [1_000_002.0, 1_000_001.0, 1_000_000.0]
        recorded(ledger, enqueued_at=moments[0])
        recorded(ledger, enqueued_at=moments[1], at_front=True)
        assert ledger.oldest("default") == moments[1]
        recorded(ledger, enqueued_at=moments[2])
        assert ledger.oldest("default") == moments[2]

    def test_a_job_is_suspect_that_nobody_holds(self, ledger):
        jobs = [
            begun(ledger),
            begun(ledger),
            recorded(ledger),
            recorded(ledger, at_front=True),
        ]
        ledger.release(jobs[1], SOMEBODY)
        later = {"waiting_since": time.time() + 1, "looked_for": time.time()}
        found = {record.message.id for record in ledger.suspects(["default"], **later)}
        assert found == {job.id for job in jobs[1:]}
        ledger.looked_for(jobs[1:3], time.time() + 1)
        (left,) = ledger.suspects(["default"], **later)
        assert left.message.id == jobs[3].id
        assert ledger.suspects(["default"], waiting_since=time.time() - 60, looked_for=0) == []

    def test_a_job_whose_retry_is_not_due_yet_is_not_suspect(self, ledger):
        jobs = [begun(ledger, enqueued_at=time.time() - DAY) for _ in range(2)]
        for job, delay in zip(jobs, (60, -1), strict=True):
            ledger.wait_for_retry(job, delay, {})
        ledger.send_due(ledger.due().due)
        (found,) = ledger.suspects(["default"], waiting_since=time.time(), looked_for=0)
        assert found.message.id == jobs[1].id


class TestKeptAside:
    def test_the_last_thousand_stay_newest_first(self, ledger):
        for number in range(1002):
            ledger.keep_aside({"error": str(number)})
        errors = [int(one["error"]) for one in ledger.kept_aside()]
        assert errors == list(range(1001, 1, -1))

    def test_they_stay_as_long_as_failed_jobs(self, ledger):
        ledger.keep_aside({"error": "damaged"})
        ttl = ledger.redis.ttl(ledger._key("damaged"))
        assert 0 < ttl <= ledger._settings.job_failure_ttl
