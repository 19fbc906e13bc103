"""Many jobs at once: what was shown, as far as it is still so, on both brokers."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.bulk import actions
from frappe_jobs.bulk.shown import REMEMBERED, look, recall, remember
from frappe_jobs.errors import ArgumentError, BrokerUnavailable
from frappe_jobs.ledger import Ledger
from frappe_jobs.message import Sending
from frappe_jobs.testing import wait_until

#: Two chunks and a bit.
MANY = 1_007


@pytest.fixture
def here(on_each_broker):
    return runtime.current()


def enqueue(count, site="site1", method=tasks.echo, **options):
    with frappe.site(site):
        jobs = frappe.enqueue_many({"method": method} | options for _ in range(count))
    return [runtime.current().ledger.read(job.message_id).message for job in jobs]


def end(messages, status="failed"):
    ledger = runtime.current().ledger
    with ledger.redis.pipeline(transaction=False) as pipe:
        for one in messages:
            ledger._ended(one, status, {"reason": "ValueError: on purpose"}, False, client=pipe)
        pipe.execute()


def shown(here, limit=MANY, sites=("site1",), **filters):
    return look(here.search(sites, **filters), limit)


def statuses(here, site="site1"):
    return Counter(record.status for record in here.ledger.records(site))


def test_failed_jobs_are_retried_but_for_those_that_have_changed_since(here):
    messages = enqueue(6)
    end(messages[:5])
    found = shown(here, statuses=["failed"])
    here.jobs.requeue(messages[0], goes_on=False)
    here.ledger.forget(messages[1])
    seen = []
    outcome = here.bulk.retry(found, ["site1"], lambda *at: seen.append(at))
    assert sorted(outcome.done) == sorted(one.job_id for one in messages[2:5])
    assert (outcome.skipped, seen) == ({"gone": 2}, [(5, 5)])
    assert statuses(here) == {"queued": 5}
    assert here.broker.depth("default") == 10
    assert here.ledger.find("site1", messages[2].job_id).message.goes_on == messages[2].id
    assert here.bulk.retry(found, ["site1"]).skipped == {"gone": 5}


def test_from_the_start_nothing_goes_on(here):
    end(enqueue(1))
    here.bulk.retry(shown(here), ["site1"], from_start=True)
    (record,) = here.ledger.records("site1")
    assert (record.status, record.message.goes_on) == ("queued", None)


def test_who_retries_at_the_same_time_retries_each_once(here):
    end(enqueue(3))
    found = shown(here)
    records = here.ledger.read_heads([*found.statuses])
    here.ledger.claim_again(records[:2])  # somebody else has, and sends them
    assert here.bulk.retry(found, ["site1"]).skipped == {"changed": 2}
    assert statuses(here) == {"failed": 2, "queued": 1}


def test_waiting_jobs_are_cancelled_but_for_those_that_have_begun_or_ended_since(here):
    messages = enqueue(6)
    found = shown(here, statuses=["queued"])
    here.ledger.start(messages[0], "a process")
    end(messages[1:2], "finished")
    outcome = here.bulk.cancel(found, ["site1"])
    assert (len(outcome.done), outcome.skipped) == (4, {"changed": 2})
    assert statuses(here) == {"started": 1, "finished": 1, "cancelled": 4}
    assert outcome.left_behind == (0 if here.broker.is_searchable else 4)
    assert here.broker.depth("default") == (2 if here.broker.is_searchable else 6)


def test_what_an_action_is_not_for_is_left(here):
    messages = enqueue(3)
    end(messages[:1])
    end(messages[1:2], "finished")
    outcome = here.bulk.cancel(shown(here, statuses=["failed", "finished"]), ["site1"])
    assert (outcome.done, outcome.skipped) == ([], {"unfit": 2})
    outcome = here.bulk.retry(shown(here), ["site1"])
    assert (len(outcome.done), outcome.skipped) == (2, {"unfit": 1})


def test_deleted_jobs_are_known_no_more_and_never_run(here, on_each_broker):
    messages = enqueue(4, tag="deleted")
    end(messages[:2])
    found = shown(here)
    here.ledger.start(messages[3], "a process")
    outcome = here.bulk.delete(found, ["site1"])
    assert (len(outcome.done), outcome.skipped) == (3, {"changed": 1})
    assert statuses(here) == {"started": 1}
    here.bulk.delete(shown(here), ["site1"])  # its process is not there
    with frappe.site("site1"):
        last = frappe.enqueue(tasks.ping)
    with on_each_broker.worker():
        assert last.wait(20) == "pong"
    assert on_each_broker.marks("echo") == []


def test_a_running_job_is_killed(shared):
    here = runtime.current()
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.sleep, seconds=60)
        wait_until(lambda: job.get_status() == "started", 20)
    outcome = here.bulk.cancel(shown(here, statuses=["started"], job=job.id), ["site1"])
    assert outcome.done == [job.id]
    assert job.get_status() == "cancelled"


@pytest.mark.parametrize("action", ["retry", "cancel", "delete"])
def test_other_sites_jobs_are_left_as_if_they_were_gone(here, action):
    theirs = enqueue(4, site="site2")
    end(theirs[:2])
    found = shown(here, sites=["site2"])
    outcome = getattr(here.bulk, action)(found, ["site1"])
    assert (outcome.done, outcome.skipped) == ([], {"gone": 4})
    assert statuses(here, "site2") == {"queued": 2, "failed": 2}


@pytest.mark.parametrize("action", ["retry", "cancel", "delete"])
def test_a_thousand_take_a_second_or_so(here, action):
    messages = enqueue(MANY)
    if action == "retry":
        end(messages, "cancelled")
    found = shown(here)
    assert len(found.statuses) == MANY and not found.has_more
    seen, began = [], time.monotonic()
    outcome = getattr(here.bulk, action)(found, ["site1"], lambda *at: seen.append(at))
    assert len(outcome.done) == MANY and not outcome.skipped
    assert seen == [(500, MANY), (1000, MANY), (MANY, MANY)]
    assert time.monotonic() - began < 20


def test_a_long_queue_is_not_searched_for_messages(on_redis, monkeypatch):
    here = runtime.current()
    monkeypatch.setattr(actions, "LONGEST_SEARCHED", 2)
    messages = enqueue(3)
    outcome = here.bulk.cancel(shown(here), ["site1"])
    assert (len(outcome.done), outcome.left_behind) == (3, 3)
    assert here.broker.depth("default") == 3
    assert here.ledger.buried(messages) == {one.id for one in messages}


def test_a_broker_that_is_away_leaves_jobs_that_can_be_retried_later(make_bench):
    here = make_bench(celery_broker_url="amqp://guest:guest@127.0.0.1:1//").use()
    here.app.conf.broker_connection_timeout = 0.2  # seconds that each sending waits for it
    (message,) = enqueue_nowhere(here, 1)
    found = shown(here, statuses=["failed"])
    for _ in range(2):
        with pytest.raises(BrokerUnavailable) as caught:
            here.bulk.retry(found, ["site1"])
        assert caught.value.details["outcome"].done == []
        assert here.ledger.read(message.id).status == "failed"
    assert statuses(here) == {"failed": 1, "cancelled": 2}


def enqueue_nowhere(here, count):
    """Jobs that have failed, on a bench whose broker is away."""
    ledger = Ledger(here.in_force)
    made = []
    for _ in range(count):
        with frappe.site("site1"):
            with pytest.raises(BrokerUnavailable):
                frappe.enqueue(tasks.echo)
        (record,) = ledger.records("site1")
        ledger.forget(record.message)
        ledger.record([Sending(record.message)])
        made.append(record.message)
    end(made)
    return made


class TestWhatWasShown:
    def test_it_is_counted_and_bounded(self, here):
        enqueue(3)
        enqueue(2, queue="long", method=tasks.ping)
        enqueue(1, site="site2")
        found = shown(here, sites=["site1", "site2"])
        assert found.counts == {
            ("site1", "queued", "default", "acme.tasks.echo"): 3,
            ("site1", "queued", "long", "acme.tasks.ping"): 2,
            ("site2", "queued", "default", "acme.tasks.echo"): 1,
        }
        assert not found.has_more
        few = shown(here, limit=2)
        assert (len(few.statuses), few.has_more) == (2, True)

    def test_it_is_recalled_by_its_word_for_a_while(self, on_redis):
        here = runtime.current()
        enqueue(3)
        found = shown(here)
        word = remember(here.ledger, found)
        assert recall(here.ledger, word) == found
        key = here.ledger._key("shown", word)
        assert 0 < here.ledger.redis.ttl(key) <= REMEMBERED
        here.ledger.redis.delete(key)
        for wrong in (word, "", "x" * 22, "x" * 9_999, "*", None, "é" * 22):
            with pytest.raises(ArgumentError, match="is no longer known: it is kept for 15 min"):
                recall(here.ledger, wrong)
