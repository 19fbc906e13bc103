"""Searches: filters together, latest first, page by page, in bounded steps, of one's own sites."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.errors import ArgumentError
from frappe_jobs.ledger import heads, walk
from frappe_jobs.ledger.connection import connect
from frappe_jobs.ledger.record import ENDED
from frappe_jobs.ledger.sieve import STEP
from frappe_jobs.ledger.wanted import Wanted
from frappe_jobs.message import Sending


@pytest.fixture(params=[False, True], ids=["unindexed", "indexed"])
def indexed(request):
    return request.param


@pytest.fixture(params=["redis", "rabbitmq"])
def here(request, make_bench, indexed):
    """A bench on each broker, with and without the search indexes."""
    config = {"frappe_jobs_search_index": indexed}
    if request.param == "rabbitmq":
        config["celery_broker_url"] = request.getfixturevalue("amqp_url")
    return make_bench(**config).use()


@pytest.fixture
def bench(make_bench, indexed):
    """A bench on Redis, with and without them."""
    return make_bench(frappe_jobs_search_index=indexed)


def enqueue(count, site="site1", method=tasks.echo, **options):
    with frappe.site(site):
        return frappe.enqueue_many(
            {"method": method, "number": number} | options for number in range(count)
        )


def end(job, status="failed", reason=None, error=None):
    fields = {"reason": reason, "error": error}
    message = runtime.current().ledger.read(job.message_id).message
    given = {name: text for name, text in fields.items() if text}
    assert runtime.current().ledger.end(message, status, given)


def walked(search, limit=50):
    """The pages from the first to the last."""
    pages = [search.page(None, limit)]
    while pages[-1].cursor:
        pages.append(search.page(pages[-1].cursor, limit))
    return pages


def ids(here, *sites, limit=50, **filters):
    """What is found on all pages."""
    pages = walked(here.search(sites or ["site1"], **filters), limit)
    return [record.message.id for page in pages for record in page.records]


def message_ids(jobs):
    return [job.message_id for job in jobs]


def raw(cursor):
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


class TestFilters:
    def test_each_of_them_and_all_together_find_the_same_on_pages_of_any_size(self, here):
        plain = enqueue(5)
        with frappe.site("site1", "anna"):
            hers = frappe.enqueue_many({"method": tasks.echo, "queue": "long"} for _ in range(4))
        slow = enqueue(3, queue="long", method=tasks.progress)
        enqueue(3, site="site2")
        newest_first = message_ids([*plain, *hers, *slow])[::-1]
        for limit in (1, 2, 7, 1000):
            assert ids(here, limit=limit) == newest_first
            assert ids(here, user="anna", limit=limit) == message_ids(hers)[::-1]
            assert ids(here, queues=["long"], limit=limit) == newest_first[:7]
            assert ids(here, queues=["long", "default"], limit=limit) == newest_first
            assert ids(here, method="acme.tasks.progress", limit=limit) == message_ids(slow)[::-1]
        assert (
            ids(here, queues=["long"], method="acme.tasks.echo", user="anna", statuses=["queued"])
            == message_ids(hers)[::-1]
        )
        assert ids(here, method="acme.tasks.progress", user="anna") == []

    def test_the_ended_stand_among_the_others_by_their_time(self, here):
        first, second, third, fourth = enqueue(4)
        end(second, "failed")
        end(first, "cancelled")
        end(fourth, "finished")
        runtime.current().ledger.start(here.ledger.read(third.message_id).message, "a process")
        found = message_ids([fourth, first, second, third])
        for limit in (1, 3, 10):
            assert ids(here, limit=limit) == found
        assert ids(here, statuses=ENDED) == found[:3]
        assert ids(here, statuses=["failed", "started"], limit=1) == found[2:]
        assert ids(here, statuses=["queued"]) == []

    def test_a_time_counts_from_the_end_or_else_from_the_enqueuing(self, here):
        early, late = enqueue(2)
        between = time.time()
        end(early, "finished")
        (last,) = enqueue(1)
        assert ids(here, since=between) == message_ids([last, early])
        assert ids(here, until=between) == [late.message_id]
        assert ids(here, since=between, until=here.ledger.read(early.message_id).ended_at) == [
            early.message_id
        ]
        assert ids(here, since=time.time() + 60) == []
        here.ledger.start(here.ledger.read(late.message_id).message, "a process")
        assert ids(here, until=between, statuses=["started"]) == [late.message_id]
        assert ids(here, since=between, statuses=["started"]) == []

    def test_a_failed_job_is_found_by_words_of_its_error(self, here):
        one, other, done = enqueue(3)
        end(one, reason="LinkError: Kunde Müller of SINV-0042 is gone", error="acme.LinkError")
        end(other, reason="DoesNotExistError: Kunde 42", error="acme.DoesNotExistError")
        end(done, "cancelled", reason="Kunde")
        assert ids(here, error="kunde") == message_ids([other, one])
        assert ids(here, error="MÜLLER linkerror") == [one.message_id]
        assert ids(here, error="0042") == [one.message_id]
        assert ids(here, error="kund") == ids(here, error="kunde", statuses=["queued"]) == []

    def test_an_id_is_the_callers_or_the_messages(self, here):
        (mine,), (theirs,) = enqueue(1, job_id="x"), enqueue(1, site="site2", job_id="x")
        assert ids(here, job="x") == [mine.message_id]
        assert ids(here, job=mine.message_id) == [mine.message_id]
        assert ids(here, job=theirs.message_id) == ids(here, job="y") == []
        assert ids(here, "site1", "site2", job="x", limit=1) == message_ids([theirs, mine])
        assert ids(here, job="x", statuses=["failed"]) == []

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"statuses": ["gone"]}, "There is no status 'gone'; legal: queued, started,"),
            ({"method": ""}, "'method' must be a text of 1 to 1,000 characters; not ''."),
            ({"user": "x" * 1001}, "'user' must be a text of 1 to 1,000 characters"),
            ({"since": float("nan")}, "'since' must be seconds since 1970; not nan."),
            ({"until": True}, "'until' must be seconds since 1970; not True."),
            ({"error": " ?! "}, "'error' must have 1 to 8 words; not ' ?! '."),
            ({"error": "a b c d e f g h i"}, "'error' must have 1 to 8 words"),
        ],
    )
    def test_one_that_fits_no_job_is_said(self, bench, wrong, said):
        with pytest.raises(ArgumentError) as caught:
            bench.use().search(["site1"], **wrong)
        assert str(caught.value).startswith(said)


HOSTILE = ['"', "\\", "a:b", "*", "\n", "\0", "é", "\ud800", '","user":"anna', "x" * 999, " "]


@pytest.fixture
def wide(make_bench, indexed):
    """A bench with more sites than a page has jobs."""
    bench = make_bench(frappe_jobs_search_index=indexed)
    for number in range(3, 9):
        bench.write(f"site{number}/site_config.json", {})
    return bench.use()


def test_of_many_sites_each_page_has_the_jobs_that_come_next(wide, monkeypatch):
    monkeypatch.setattr(heads, "STEP", 3)
    sites, jobs = wide.settings.sites.names(), []
    for turn in range(4):
        for site in sites:
            jobs += enqueue(1, site, tasks.echo if turn % 2 else tasks.progress)
    for number, job in enumerate(jobs[: len(sites) * 2]):
        end(job, [*ENDED, "failed"][number % 4], "ValueError: on purpose")
    records = [wide.ledger.read(job.message_id) for job in jobs]
    records.sort(key=lambda one: one.ended_at or one.message.enqueued_at, reverse=True)
    for filters in ({}, {"method": "acme.tasks.echo"}, {"error": "purpose"},
                    {"statuses": ["failed", "queued"]}, {"statuses": ["finished"]}):  # fmt: skip
        wanted = Wanted(sites, **filters)
        expected = [one.message.id for one in records if wanted.fits(one)]
        for limit in (1, 2, 5, 1000):
            assert ids(wide, *sites, limit=limit, **filters) == expected, (filters, limit)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_ids_users_and_methods_are_found_as_they_are(bench, text):
    here = bench.use()
    job, _ = enqueue(2)
    message = here.ledger.read(job.message_id).message
    named = runtime.current().search(["site1"], user=text)._wanted.user  # as a message has it
    hostile = replace(message, id=named, job_id=named, user=named, method=named)
    here.ledger.record([Sending(hostile)])
    for filters in (
        {"user": text},
        {"method": text},
        {"job": text},
        {"user": text, "method": text},
    ):
        assert ids(here, limit=1, **filters) == [named]
    assert len(ids(here, limit=1)) == 3


def test_what_stands_in_the_arguments_is_not_found(bench):
    here = bench.use()
    with frappe.site("site1"):
        frappe.enqueue(tasks.echo, value={"user": "anna", "method": "acme.tasks.progress"})
    assert ids(here, user="anna") == ids(here, method="acme.tasks.progress") == []


class TestBoundedWork:
    def test_a_page_ends_where_it_has_looked_at_so_many_and_the_next_goes_on(
        self, bench, monkeypatch
    ):
        here = bench.use()
        monkeypatch.setattr(walk, "BOUND", 2 * STEP)
        (wanted,) = enqueue(1, method=tasks.progress)
        enqueue(3 * STEP)
        first, *others = walked(here.search(["site1"], method="acme.tasks.progress"))
        if here.settings.keeps_search_index:
            assert (first.looked, len(first.records), others) == (1, 1, [])
            return
        assert first.records == [] and first.is_cut
        assert STEP <= first.looked <= 2 * STEP
        assert [one.message.id for page in others for one in page.records] == [wanted.message_id]
        assert not others[-1].is_cut and others[-1].cursor is None
        monkeypatch.setattr(walk, "SECONDS", 0)
        monkeypatch.setattr(walk, "BOUND", 10**9)
        first, *others = walked(here.search(["site1"], method="acme.tasks.progress"))
        assert (first.looked, first.records, first.is_cut) == (2 * STEP, [], True)
        assert [one.message.id for page in others for one in page.records] == [wanted.message_id]

    def test_none_is_passed_over_where_all_were_enqueued_at_one_moment(self, bench):
        here = bench.use()
        (job,) = enqueue(1)
        message = here.ledger.read(job.message_id).message
        same = [replace(message, id=str(n), job_id=str(n)) for n in range(STEP + 50)]
        here.ledger.record([Sending(one) for one in same])
        found = ids(here, limit=1000)
        assert found == sorted([job.message_id, *(one.id for one in same)], reverse=True)

    def test_those_that_stay_are_found_while_others_go(self, here):
        jobs = enqueue(60)
        search = here.search(["site1"], method="acme.tasks.echo", statuses=["queued"])
        page = search.page(None, 20)
        for record in page.records:  # also the one whose place the cursor is
            here.ledger.end(record.message, "finished")
        seen = [*page.records]
        while page.cursor:
            page = search.page(page.cursor, 20)
            seen += page.records
        assert [one.message.id for one in seen] == message_ids(jobs)[::-1]

    def test_what_is_no_longer_kept_is_passed_over_and_goes_from_the_index(self, bench):
        here = bench.use()
        jobs = enqueue(3)
        for job in jobs:
            end(job)
        here.ledger.redis.delete(here.ledger._key("record", jobs[1].message_id))  # its time is over
        assert ids(here) == message_ids([jobs[2], jobs[0]])
        assert here.ledger.redis.zcard(here.ledger._key("ended", "site1")) == 2

    def test_of_a_redis_that_was_emptied_nothing_is_found(self, bench):
        here = bench.use()
        enqueue(3)
        cursor = here.search(["site1"]).page(None, 1).cursor
        for key in here.ledger.redis.keys(here.ledger._key("*")):
            here.ledger.redis.delete(key)
        page = here.search(["site1"]).page(cursor, 1)
        assert ([*page.records], page.cursor, page.looked) == ([], None, 0)


class TestOtherSites:
    def test_their_jobs_are_neither_found_nor_counted(self, here):
        theirs = [*enqueue(5, site="site2"), *enqueue(2, site="site2", queue="long")]
        for job in theirs[:3]:
            end(job, reason="secret")
        here.ledger.start(here.ledger.read(theirs[3].message_id).message, "a process")
        (mine,) = enqueue(1, queue="long")
        enqueue(5)
        for filters in (
            {}, {"queues": ["long"]}, {"job": theirs[0].message_id}, {"error": "secret"},
            {"statuses": ["started"]}, {"statuses": ENDED}, {"method": "acme.tasks.echo"},
        ):  # fmt: skip
            pages = walked(here.search(["site1"], **filters), 1)
            assert all(one.message.site == "site1" for page in pages for one in page.records)
            assert sum(page.looked for page in pages) <= 6 * len(pages)
        assert ids(here, queues=["long"]) == [mine.message_id]
        assert here.search(["site1"], queues=["long"]).page().looked <= 1

    def test_a_cursor_of_theirs_leads_to_ones_own_jobs_alone(self, here):
        enqueue(3, site="site2")
        cursor = here.search(["site2"]).page(None, 1).cursor
        enqueue(3)
        page = here.search(["site1"]).page(cursor)
        assert {one.message.site for one in page.records} <= {"site1"}


@pytest.mark.parametrize(
    "broken",
    [
        lambda cursor: cursor[:-3],
        lambda cursor: cursor + "x",
        lambda cursor: "x" * 5_000,
        lambda cursor: "é",
        lambda cursor: "",
        lambda cursor: urlsafe_b64encode(raw(cursor).replace(b"[", b"{")).decode(),
        lambda cursor: urlsafe_b64encode(raw(cursor)[:6] + b"null").decode(),
        lambda cursor: 7,
    ],
)
def test_a_broken_cursor_is_said_in_a_line(bench, broken):
    here = bench.use()
    enqueue(2)
    search = here.search(["site1"])
    cursor = search.page(None, 1).cursor
    with pytest.raises(ArgumentError, match="is no cursor of this search") as caught:
        search.page(broken(cursor))
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="is no cursor of this search"):
        here.search(["site1"], user="anna").page(cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001, 1.5, "1", True])
def test_a_wrong_limit_is_said(bench, limit):
    with pytest.raises(ArgumentError, match="'limit' must be a whole number, 1 to 1,000"):
        bench.use().search(["site1"]).page(None, limit)


def test_a_name_that_is_no_utf_8_is_passed_over(here):
    """Ours are texts; what others write under our keys may be anything, and is asked for."""
    jobs = enqueue(3)
    with connect(here.ledger._whole_url, decode_responses=False) as redis:
        for key in redis.scan_iter(f"{here.ledger._prefix}*"):
            if redis.type(key) == b"zset":
                redis.zadd(key, {b"\x80": time.time()})
        records = f"{here.ledger._prefix}record:".encode()
        other = redis.hgetall(records + jobs[0].message_id.encode())
        redis.hset(records + b"\x80", mapping=other)
    assert {*ids(here, limit=1)} == {*message_ids(jobs)}
