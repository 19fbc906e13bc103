"""On Redis a worker takes its next job while a short one runs; it never keeps it from others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from acme import tasks
from taker import NOW, message, send, sends

import frappe_jobs as frappe
from frappe_jobs.celery.transport.ahead import SHORT
from frappe_jobs.celery.transport.take import AHEAD
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.ledger.record import Attempt, Refusal
from frappe_jobs.testing import wait_until

A, B = "worker a", "worker b"


def begin(here, taken, who=A, **forged):
    """What the ledger says to the worker that has taken this message, and begins its job."""
    token = taken.delivery_tag
    name = here.broker.queue_name("default")
    held = here.broker.held(token, name, is_ahead=token.endswith(AHEAD))
    job = replace(here.ledger.read(taken.headers["id"]).message, **forged)
    return here.ledger.start(job, who, held=held)


@pytest.fixture
def pair(here, taker):
    """A worker that has taken two messages, as its jobs are short: the one that runs, and the next.

    And a function that gives it a third one.
    """
    here.ledger.redis.ping()
    sends(here, "site1", 3)
    mine = taker(is_ahead=True)
    first = mine.take()
    mine.channel.qos.ahead.began()
    first.ack()
    runs = mine.take()
    mine.channel.qos.ahead._since += NOW  # it is as if it had begun this moment, for a while
    ahead = mine.take()
    assert ahead.delivery_tag.endswith(AHEAD) and not runs.delivery_tag.endswith(AHEAD)
    return runs, ahead


class TestTaking:
    def test_two_are_held_while_jobs_are_short(self, pair):
        runs, ahead = pair
        assert runs.headers["id"] != ahead.headers["id"]

    def test_no_other_one_while_a_job_is_long(self, here, taker):
        sends(here, "site1", 3)
        mine = taker(is_ahead=True)
        assert mine.take()
        mine.channel.qos.ahead._since -= SHORT
        mine.channel.qos.ahead._is_short = True
        assert mine.take(1) is None

    def test_no_other_one_before_a_job_was_short(self, here, taker):
        sends(here, "site1", 2)
        mine = taker(is_ahead=True)
        assert mine.take()
        assert mine.take(1) is None

    def test_no_other_one_in_a_worker_that_does_not_take_ahead(self, here, taker):
        sends(here, "site1", 3)
        mine = taker()
        mine.take().ack()
        assert mine.take()
        assert mine.take(1) is None


class TestBeginning:
    def test_what_was_taken_ahead_begins(self, here, pair):
        assert isinstance(begin(here, pair[1]), Attempt)

    def test_what_was_put_back_is_begun_by_who_takes_it_then(self, here, pair, taker):
        _, ahead = pair
        ahead.requeue()
        taken = taker().take()
        assert taken.headers["id"] == ahead.headers["id"]  # it goes before the others
        assert begin(here, ahead) == Refusal(given_back=True)
        assert isinstance(begin(here, taken, B), Attempt)
        assert begin(here, ahead) == Refusal(given_back=True)

    def test_a_forgery_that_was_put_back_is_met_by_who_takes_it_then(self, here, pair, taker):
        """Once, as each that is met is kept aside."""
        _, ahead = pair
        ahead.requeue()
        taken = taker().take()
        assert begin(here, ahead, user="another") == Refusal(given_back=True)
        assert begin(here, taken, B, user="another") == Refusal(forged=True)

    def test_what_its_worker_lost_as_it_stood_still_is_refused(self, here, pair):
        runs, _ = pair
        here.ledger.redis.hdel(here.broker._held_key, runs.delivery_tag)
        assert begin(here, runs) == Refusal(given_back=True)

    def test_a_reply_that_was_lost_is_given_again(self, here, pair):
        runs, _ = pair
        job = here.ledger.read(runs.headers["id"]).message
        held = here.broker.held(runs.delivery_tag, "", is_ahead=False)
        assert here.ledger.start(job, A, "a run", held) == Attempt(1)
        here.ledger.redis.hdel(held.key, held.token)
        assert here.ledger.start(job, A, "a run", held) == Attempt(1)

    def test_where_all_records_were_lost_it_still_runs(self, here, pair):
        runs, _ = pair
        job = here.ledger.read(runs.headers["id"]).message
        keys = here.ledger.redis.keys(f"{here.settings.prefix}*")
        here.ledger.redis.delete(*keys)
        held = here.broker.held(runs.delivery_tag, "", is_ahead=False)
        assert here.ledger.start(job, A, held=held) == Attempt(1, is_recorded_anew=True)

    @pytest.mark.parametrize("is_filed", [False, True])
    def test_an_at_front_job_that_came_meanwhile_goes_first(self, here, pair, is_filed):
        runs, ahead = pair
        send(here, message("site1", "urgent", at_front=True))
        if is_filed:
            here.broker.file(["default"])
        assert begin(here, ahead) == Refusal(others_first=True)
        assert isinstance(begin(here, runs), Attempt)  # taken before, and not ahead

    def test_one_at_front_that_was_taken_ahead_begins(self, here, taker):
        sends(here, "site1", 3, at_front=True)
        mine = taker(is_ahead=True)
        mine.take().ack()
        assert mine.take()
        mine.channel.qos.ahead._since += NOW
        assert isinstance(begin(here, mine.take()), Attempt)

    @pytest.mark.parametrize(
        "pause", [Pause("default", None), Pause("default", "site1"), Pause(None, "site1")]
    )
    def test_it_minds_a_pause_that_began_meanwhile(self, here, pair, pause):
        here.ledger.pause([pause])
        assert begin(here, pair[1]) == Refusal(others_first=True)

    def test_a_pause_elsewhere_is_none_of_its(self, here, pair):
        here.ledger.pause([Pause("short", None), Pause(None, "site2")])
        assert isinstance(begin(here, pair[1]), Attempt)


def test_a_job_behind_one_that_turns_out_long_goes_to_a_free_worker(on_redis, tmp_path):
    """And its copy in the first worker's process is dropped, which then goes on."""
    go_on = tmp_path / "go on"
    for _ in range(40):
        frappe.enqueue(tasks.ping)
    long = frappe.enqueue(tasks.hold, until=str(go_on))
    behind = [frappe.enqueue(tasks.ping) for _ in range(3)]
    with on_redis.worker():
        wait_until(lambda: frappe.get_job(long.id).status == "started", NOW * 2)
        with on_redis.worker():
            assert [job.wait(NOW * 2) for job in behind] == ["pong"] * 3
            assert frappe.get_job(long.id).status == "started"
        go_on.touch()
        long.wait(NOW)
        assert frappe.enqueue(tasks.ping).wait(NOW) == "pong"
    assert [frappe.get_job(job.id).attempt for job in behind] == [1] * 3
