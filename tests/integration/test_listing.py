"""Reading the ledger's indexes page by page, while jobs come, go and change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs.ledger.listing import PAGE, Listing
from frappe_jobs.message import Sending

#: Two whole pages and a bit.
MANY = 2 * PAGE + 7


@pytest.fixture
def here(bench):
    return bench.use()


@pytest.fixture
def listing(here):
    return Listing(here.ledger, here.settings)


def enqueue(count, site="site1", **options):
    with frappe.site(site):
        return frappe.enqueue_many(
            {"method": tasks.echo, "number": number} | options for number in range(count)
        )


def numbers(records):
    return [record.message.arguments["number"] for record in records]


def test_all_come_latest_first_over_all_pages(listing):
    enqueue(MANY)
    enqueue(3, site="site2")
    assert numbers(listing.latest(["site1"])) == [*range(MANY)][::-1]
    assert len([*listing.latest(["site1", "site2"])]) == MANY + 3


def test_of_a_queue_at_front_jobs_stand_where_they_were_enqueued(listing):
    enqueue(PAGE)
    enqueue(2, queue="long", job_name="first")
    enqueue(2, queue="long", job_name="front", at_front=True)
    enqueue(2, queue="long", job_name="last")
    enqueue(2, queue="long", site="site2")
    names = [one.message.name for one in listing.latest(["site1"], queues=["long"])]
    assert names == ["last", "last", "front", "front", "first", "first"]
    assert len([*listing.latest(["site1"], queues=["long", "default"])]) == PAGE + 6


def test_none_of_those_that_stay_is_passed_over_while_others_go(here, listing):
    jobs = enqueue(MANY)
    reading = listing.waiting(["site1"])
    seen = [next(reading) for _ in range(PAGE)]
    for record in seen:  # the page's ids leave the index, and all others move up
        here.ledger.end(record.message, "finished")
    seen += reading
    assert {one.message.id for one in seen} == {job.message_id for job in jobs}


def test_none_is_passed_over_where_all_were_enqueued_at_one_moment(here, listing):
    (job,) = enqueue(1)
    message = here.ledger.read(job.message_id).message
    same = [replace(message, id=str(number), job_id=str(number)) for number in range(MANY)]
    here.ledger.record([Sending(one) for one in same])
    found = [record.message.id for record in listing.waiting(["site1"])]
    assert sorted(found) == sorted([job.message_id, *(one.id for one in same)])


def test_what_runs_and_what_waits_are_told_apart(here, listing):
    running, *_ = enqueue(4, event="night")
    enqueue(2)
    enqueue(1, site="site2")
    here.ledger.start(here.ledger.read(running.message_id).message, "a process")
    assert listing.count_open("site1") == (5, 1)
    assert listing.count_open("site2") == (1, 0)
    assert [one.message.id for one in listing.latest(["site1"], ["started"])] == [
        running.message_id
    ]
    assert [*listing.latest(["site2"], ["started"])] == []
    assert numbers(listing.waiting(["site1"], event="night")) == [3, 2, 1]
    assert {queue: {**methods} for queue, methods in listing.pending("site1").items()} == {
        "default": {"acme.tasks.echo": 5}
    }


def test_ended_jobs_stand_where_they_ended_the_failed_among_the_others(here, listing):
    jobs = enqueue(4)
    (other,) = enqueue(1, site="site2")
    for job, status in zip(
        [jobs[2], other, jobs[0], jobs[3]], ["failed", "failed", "finished", "cancelled"]
    ):
        here.ledger.end(here.ledger.read(job.message_id).message, status)
    ended = listing.latest(["site1"], ["finished", "failed", "cancelled"])
    assert numbers(ended) == [3, 0, 2]
    assert numbers(listing.latest(["site1"], ["failed"])) == [2]
    assert numbers(listing.latest(["site1"], ["cancelled", "queued"])) == [3, 1]


def test_a_message_id_finds_the_older_sending_and_only_on_its_site(listing):
    (old,), (new,) = enqueue(1, job_id="mine"), enqueue(1, job_id="mine")
    assert listing.find("site1", "mine").message.id == new.message_id
    assert listing.find("site1", old.message_id).message.id == old.message_id
    assert listing.find("site2", old.message_id) is None
