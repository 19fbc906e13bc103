"""The search indexes: whole whatever happens to jobs, filled where they are not, gone with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from acme import tasks
from redis_commands import commands

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger, backfill, indexes
from frappe_jobs.ledger.indexes import Indexes
from frappe_jobs.ledger.search import Searches
from frappe_jobs.message import Sending
from frappe_jobs.testing import wait_until


@pytest.fixture
def here(make_bench):
    return make_bench(frappe_jobs_search_index=True, rq_failed_jobs_limit=3).use()


@pytest.fixture
def earlier(here):
    """The ledger of a version, or a process, that keeps no search indexes."""
    return Ledger(replace(here.in_force, search_index=False))


def enqueue(count, **options):
    with frappe.site("site1"):
        jobs = frappe.enqueue_many({"method": tasks.echo} | options for _ in range(count))
    return [runtime.current().ledger.read(job.message_id).message for job in jobs]


def record(ledger, count):
    """Jobs that another process has recorded."""
    (message,) = enqueue(1)
    ledger.end(message, "cancelled")
    ledger.forget(message)
    made = [message.again(at=message.enqueued_at) for _ in range(count)]
    made = [replace(one, job_id=one.id) for one in made]
    ledger.record([Sending(one) for one in made])
    return made


def found(here, **filters):
    page = here.search(["site1"], **filters).page(None, 1000)
    assert page.cursor is None
    return page


def is_whole(here, site="site1"):
    return Indexes(here.ledger, here.settings).is_whole(site)


def index_keys(here):
    return here.ledger.redis.keys(here.ledger._key("by", "*"))


def test_they_are_whole_through_all_that_happens_to_jobs(here):
    messages = enqueue(10)
    assert is_whole(here) and is_whole(here, "site2")
    here.ledger.start(messages[0], "a process")
    here.ledger.wait_for_retry(messages[0], 0, {})
    here.ledger.start(messages[1], "a process")
    here.ledger.hand_back(messages[1], "a process")
    assert is_whole(here)
    for one, status in zip(messages, ["finished", "failed", "cancelled", "failed"]):
        assert here.ledger.end(one, status, {"reason": f"Error: {status}"})
    assert is_whole(here)
    here.jobs.requeue(messages[3], goes_on=True)
    here.jobs.of_message(messages[4]).delete()
    assert is_whole(here)
    assert len(found(here, method="acme.tasks.echo").records) == 9


def test_what_is_dropped_as_too_many_have_failed_goes_from_them_too(here):
    messages = enqueue(6)
    for one in messages:
        here.ledger.end(one, "failed", {"reason": "ValueError: on purpose"})
    page = found(here, error="purpose")
    assert [one.message.id for one in page.records] == [one.id for one in messages[:2:-1]]
    assert page.looked == 3 and is_whole(here)


def test_nothing_stays_of_jobs_that_are_deleted(here):
    for one, status in zip(enqueue(4), ["finished", "failed", "cancelled", ""]):
        if status:
            here.ledger.end(one, status, {"reason": "ValueError: on purpose"})
        here.jobs.of_message(one).delete()
    assert index_keys(here) == []


def test_they_run_out_with_the_records(make_bench):
    here = make_bench(
        frappe_jobs_search_index=True, rq_results_ttl=1, rq_job_failure_ttl=1
    ).use()  # fmt: skip
    for one, status in zip(enqueue(3), ["finished", "failed", "cancelled"]):
        here.ledger.end(one, status, {"reason": "ValueError: on purpose"})
    assert len(index_keys(here)) > 10
    wait_until(lambda: index_keys(here) == [], 10)
    assert found(here, user="Administrator").records == [] and is_whole(here)


def test_those_of_a_busy_method_lose_what_has_run_out(make_bench):
    here = make_bench(frappe_jobs_search_index=True, rq_results_ttl=1).use()
    messages = enqueue(3)
    swept = [replace(one, id=f"0{one.id}", job_id=f"0{one.id}") for one in messages]
    here.ledger.record([Sending(one) for one in swept])
    here.ledger.end(swept[0], "finished")
    wait_until(lambda: not here.ledger.read(swept[0].id), 10)
    for one in swept[1:]:
        here.ledger.end(one, "finished")
    sizes = {here.ledger.redis.zcard(key) for key in index_keys(here) if key.endswith("finished")}
    assert sizes == {2}


def test_jobs_of_other_versions_are_found_at_once_and_filled_in_step_by_step(
    here, earlier, monkeypatch
):
    monkeypatch.setattr(backfill, "STEP", 4)
    made = record(earlier, 10)
    for one, status in zip(made, ["finished", "failed", "cancelled"]):
        earlier.end(one, status, {"reason": "ValueError: on purpose"})
    assert not is_whole(here)
    for _ in range(2):
        assert len(found(here, user="Administrator").records) == 10
        assert len(found(here, method="acme.tasks.echo", statuses=["queued"]).records) == 7
        assert [one.message.id for one in found(here, error="purpose").records] == [made[1].id]
        assert here.backfill.fill_all(10)
        assert is_whole(here)
    assert found(here, error="purpose").looked == 1
    for one in made[3:]:
        here.ledger.end(one, "finished")
    assert is_whole(here)


class TestOfManySites:
    """Whether the indexes are whole is not asked for each page again."""

    @pytest.fixture
    def here(self, make_bench, monkeypatch):
        monkeypatch.setattr(indexes, "STEP", 1)
        return make_bench(frappe_jobs_search_index=True).use()

    def test_jobs_of_other_versions_are_found_within_seconds(self, here, earlier):
        enqueue(3)
        filters = {"method": "acme.tasks.echo"}
        assert len(here.search(["site1", "site2"], **filters).page().records) == 3
        record(earlier, 10)
        assert len(found(here, **filters).records) == 13  # of one site at once
        wait_until(
            lambda: len(here.search(["site1", "site2"], **filters).page().records) == 13,
            indexes.LONGEST + 20,
        )

    def test_those_that_were_whole_are_not_asked_again_at_once(self, here, redis_url, monkeypatch):
        monkeypatch.setattr(indexes, "TIMES", 1e9)
        monkeypatch.setattr(indexes, "LONGEST", 600.0)
        find = Searches(here.ledger, here.settings).find
        here.search(["site1", "site2"], method="acme.tasks.echo").page()  # Redis has the scripts
        asked = []
        for _ in range(2):
            with commands(redis_url, here.settings.bench_id) as seen:
                find(["site1", "site2"], method="acme.tasks.echo").page()
            asked.append(seen.count("EVALSHA"))
        assert asked[1] == asked[0] - 2 * len(indexes.SCRIPTS)  # of each site


def test_what_other_versions_have_ended_or_removed_goes_from_them(here, earlier):
    messages = enqueue(6)
    here.ledger.end(messages[4], "finished")
    earlier.end(messages[0], "finished")
    earlier.end(messages[1], "failed")
    earlier.redis.delete(earlier._key("record", messages[4].id))
    earlier.redis.zrem(earlier._key("ended", "site1"), messages[4].id)
    earlier.end(messages[5], "cancelled")
    earlier.forget(messages[5])
    assert len(found(here, method="acme.tasks.echo").records) == 4
    assert here.backfill.fill_all(10)
    assert len(found(here, method="acme.tasks.echo").records) == 4


def test_a_fill_takes_no_longer_than_it_was_given(here, earlier, monkeypatch):
    monkeypatch.setattr(backfill, "STEP", 1)
    record(earlier, 5)
    assert [here.backfill.fill_all(0) for _ in range(3)] == [False] * 3
    assert here.backfill.fill_all(10)


def test_a_worker_fills_them(make_bench):
    bench = make_bench(frappe_jobs_search_index=True)
    here = bench.use()
    record(Ledger(replace(here.in_force, search_index=False)), 5)
    with bench.worker("--queue", "short"):
        wait_until(lambda: is_whole(here), 20)
    assert len(found(here, method="acme.tasks.echo", statuses=["queued"]).records) == 5


def test_without_the_setting_nothing_is_written(bench):
    here = bench.use()
    for one, status in zip(enqueue(3), ["finished", "failed", "cancelled"]):
        here.ledger.end(one, status)
    assert index_keys(here) == []


def test_they_are_kept_where_the_pages_are_configured():
    settings = Settings(sites_path=None)
    assert not settings.keeps_search_index
    assert replace(settings, search_index=True).keeps_search_index
