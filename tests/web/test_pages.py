"""What the pages show of real jobs, and of an address that is wrong."""

from __future__ import annotations

import sys
import threading
from functools import partial

import pytest
from acme import tasks
from recorded import come_due
from web.visitor import asked

import frappe_jobs as frappe
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.testing import wait_until
from frappe_jobs.web.bench_picture import MOST_ANSWERS, Asked, BenchPicture, Kept
from frappe_jobs.web.looks import desk_of
from frappe_jobs.web.pages import job as job_page
from frappe_jobs.web.plots import past_of

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>"


def enqueue(site="site1", **options):
    with frappe.site(site):
        return frappe.enqueue(tasks.echo, **options)


def test_the_overview_says_what_it_does_not_know_and_never_zero(anybody):
    text = anybody.text("/")
    assert "being counted" in text and "being asked" in text
    asked(anybody, "/", "No job has failed within 24 hours.")


def test_what_takes_long_is_waited_for_by_nobody(bench):
    picture, may_answer = BenchPicture(bench.use()), threading.Event()
    for who in ("everybody", frozenset(["site1"])):

        def ask(who=who):
            may_answer.wait(10)
            return who

        assert picture.answer(who, 1.0, ask).value is None
    may_answer.set()
    for who in ("everybody", frozenset(["site1"])):
        wait_until(lambda who=who: picture.answer(who, 1.0, None).value == who)


def test_the_first_answer_may_be_worth_a_moment():
    assert Asked(lambda: "it", 1.0).latest(10).value == "it"


def test_what_was_answered_before_something_was_done_is_asked_once_more():
    begun, may_answer, asked = threading.Event(), threading.Event(), []

    def ask():
        asked.append(1)
        begun.set()
        may_answer.wait(10)
        return len(asked)

    question = Asked(ask, 60.0)
    question.latest()
    begun.wait(10)
    question.forget()
    may_answer.set()
    wait_until(lambda: question.latest().value)
    wait_until(lambda: question.latest().value == 2)
    assert not question.latest().is_outdated
    question.forget()
    assert question._answer.is_outdated


def test_what_is_kept_for_a_moment_is_read_by_many_threads_at_once(switching_often):
    kept, wrong = Kept(), []

    def look():
        for number in range(5000):
            key = number % 40
            try:
                if kept.get(key, 0.0005, partial(str, key)) != str(key):
                    wrong.append(key)
            except (KeyError, RuntimeError) as error:
                wrong.append(error)

    lookers = [threading.Thread(target=look) for _ in range(8)]
    for one in lookers:
        one.start()
    for one in lookers:
        one.join(60)
    assert wrong == []


@pytest.fixture
def switching_often():
    """Threads take turns within microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_of_those_who_see_little_only_the_last_are_remembered(bench):
    picture = BenchPicture(bench.use())
    for number in range(MOST_ANSWERS + 1):
        picture.answer(number, 60.0, lambda number=number: number)
    assert len(picture._by_key) == MOST_ANSWERS and 0 not in picture._by_key


def test_the_overview_shows_the_queues_as_the_command_does(bench, anybody):
    enqueue(queue="long")
    text = asked(anybody, "/", "No worker is online for 1 waiting job.")
    for name in ("short", "default", "long"):
        assert f'href="/jobs?queue={name}"' in text


def test_the_overview_shows_what_runs_and_what_failed(shared, visit_shared):
    with frappe.site("site1"):
        failed = frappe.enqueue(tasks.fail, text="no such order")
        runs = frappe.enqueue(tasks.sleep, queue="long", seconds=60)
    wait_until(lambda: failed.get_status() == "failed" and runs.get_status() == "started")
    asked(visit_shared, "/", "1 of 2 processes busy")
    text = asked(visit_shared, "/", "no such order")
    assert "ValueError" in text and "no such order" in text
    assert f"id={runs.message_id}" in text
    assert "with acme no version, frappe_jobs 0." in text and "restart it" not in text
    runs.cancel()
    failed.delete()


def test_what_no_worker_folds_is_folded_for_the_plots(make_bench):
    here = make_bench(frappe_jobs_history=True).use()
    enqueue(queue="long")
    history, minutes = here.ledger._key("history"), here.ledger._key("history:unfolded")
    [minute] = here.ledger.redis.zrange(minutes, 0, -1)
    before = int(minute) - 1
    here.ledger.redis.rename(f"{history}:jobs:{minute}", f"{history}:jobs:{before}")
    here.ledger.redis.zadd(minutes, {before: before})
    past = past_of(here)
    assert str(before) not in here.ledger.redis.zrange(minutes, 0, -1)
    assert past["long"].total.enqueued == 1


def test_a_plot_of_times_has_no_data_where_no_job_began(make_bench):
    here = make_bench(frappe_jobs_history=True).use()
    enqueue(queue="long")
    waited, ended = past_of(here)["long"].waited, past_of(here)["long"].ended
    assert {bar.height for bar in waited} == {None}
    assert ended[-1].height == 0


def test_the_list_is_filtered_by_its_address(bench, anybody):
    enqueue(job_name="parcel one", queue="short")
    enqueue(job_name="parcel two", queue="long")
    enqueue("site2", job_name="parcel three", queue="long").cancel()
    assert "parcel one" in (text := anybody.text("/jobs")) and "parcel three" in text
    text = anybody.text("/jobs?queue=long&status=queued&status=cancelled")
    assert "parcel one" not in text and "parcel two" in text and "parcel three" in text
    text = anybody.text("/jobs?site=site1&queue=long")
    assert "parcel two" in text and "parcel three" not in text
    text = anybody.text("/jobs?method=acme.tasks.nope")
    assert "No job matches these filters." in text


def test_older_jobs_come_by_a_cursor(bench, anybody):
    with frappe.site("site1"):
        frappe.enqueue_many(
            {"method": tasks.echo, "job_name": f"parcel {number:03}"} for number in range(60)
        )
    text = anybody.text("/jobs")
    assert "parcel 059" in text and "parcel 009" not in text and "data-stream" in text
    older = text.partition('">Older jobs')[0].rpartition('href="')[2].replace("&amp;", "&")
    text = anybody.text(older)
    assert "parcel 009" in text and "parcel 059" not in text and "data-stream" not in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("status=done", "There is no status"),
        ("queue=nope", "known queues: short, default, long"),
        ("site=nope", "There is no site"),
        ("since=yesterday", "is no time"),
        ("cursor=AAAA", "cursor"),
        ("error=+%21", "must have 1 to 8 words"),
        ("user=" + "x" * 2000, "must be a text of 1 to 1,000 characters"),
    ],
)
def test_a_wrong_address_says_what_is_legal(anybody, query, said):
    found = anybody.get(f"/jobs?{query}")
    assert found.status_code == 400 and said in found.text
    assert "No job matches" not in found.text and "<form" in found.text


def test_a_job_shows_all_that_is_known_of_it(shared, visit_shared):
    with frappe.site("site1", user="grete@shop.test"):
        job = frappe.enqueue(tasks.fail, text="no such order", job_id="parcel 7")
    wait_until(lambda: job.get_status() == "failed")
    text = visit_shared.text("/job?site=site1&id=parcel 7")
    for said in ("grete@shop.test", "acme.tasks.fail", "ValueError: no such order", "Attempt 1"):
        assert said in text
    own, _, whole = text.partition("The whole traceback")
    assert ">acme/tasks.py:" in own and "frappe_jobs/execute/" not in own
    assert "Traceback (most recent call last)" in whole
    job.delete()


def test_each_attempt_is_on_its_timeline(bench, anybody):
    job, ledger = enqueue(retry=3), bench.use().ledger
    message = ledger.read(job.message_id).message
    for number in (1, 2):
        ledger.start(message, f"worker{number}/1")
        said = {"reason": f"ValueError: no price {number}", "error": "ValueError"}
        ledger.wait_for_retry(message, 3600, said)
        waiting = anybody.text(address := f"/job?site=site1&id={job.message_id}")
        come_due(ledger, message)
    assert "The next attempt is due" in waiting and "Attempt 3" not in waiting
    text = waiting
    for number in (1, 2):
        assert f"Attempt {number} began" in text and f"Attempt {number} failed" in text
        assert f"on worker{number}/1" in text and f"ValueError: no price {number}" in text
    ledger.start(message, "worker3/1")
    text = anybody.text(address)
    assert "Attempt 3 began" in text and "on worker3/1" in text and "It runs" in text


def test_what_keeps_a_job_waiting_is_said(bench, anybody):
    ledger = bench.use().ledger
    ledger.set_limits({"queue long": "running=0"})
    job = enqueue(queue="long")
    ledger.start(ledger.read(job.message_id).message, "worker1/1")
    ledger.pause([Pause("long", None), Pause("short", None), Pause(None, "site2")])
    text = anybody.text(f"/job?site=site1&id={job.message_id}")
    assert "It waits: a limit has no room for it" in text and "queue long" in text
    assert "It waits: long is paused" in text
    assert "short is paused" not in text and "site2" not in text


def test_of_a_long_traceback_the_last_calls_are_shown_at_once(shared, visit_shared, monkeypatch):
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.fail, text="no such order", job_id="parcel 8")
    wait_until(lambda: job.get_status() == "failed")
    text = visit_shared.text("/job?site=site1&id=parcel 8")
    assert "The calls before" not in text
    monkeypatch.setattr(job_page, "FRAMES", 0)
    text = visit_shared.text("/job?site=site1&id=parcel 8")
    shown, _, folded = text.partition("The calls before")
    assert ">acme/tasks.py:" in folded and ">acme/tasks.py:" not in shown
    assert text.count("<details") == text.count("</details>")
    job.delete()


def test_what_looks_secret_is_hidden(shared, visit_shared):
    given = {"order": "ORD-1", "api_token": "s3cret-1", "more": [{"Password": {"of": "s3cret-2"}}]}
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.echo, url="redis://me:s3cret-3@host/1", **given)
    job.wait(20)
    text = visit_shared.text(f"/job?site=site1&id={job.id}")
    assert "ORD-1" in text and text.count("***") >= 4
    assert "s3cret" not in text
    job.delete()


def test_nothing_that_a_job_brings_is_markup(bench, anybody):
    with frappe.site("site1", user=HOSTILE):
        job = frappe.enqueue(
            tasks.echo, job_name=HOSTILE, job_id=HOSTILE, event=HOSTILE, **{"x": {HOSTILE: HOSTILE}}
        )
    job.cancel()
    for address in ("/", "/jobs", f"/job?site=site1&id={job.message_id}"):
        text = anybody.text(address)
        assert "<script>alert" not in text and "<img" not in text
    assert "&lt;script&gt;alert" in text


@pytest.mark.parametrize(
    "address",
    ["/nope", "/job", "/job?site=site1", "/job?site=site1&id=gone", "/job?site=nope&id=gone",
     "/job?site=../site1&id=gone", "/job?id=gone", "/static/../app.py", "/static/nope.css"],
)  # fmt: skip
def test_what_is_not_here_is_not_here(anybody, address):
    found = anybody.get(address)
    assert found.status_code == 404 and "Traceback" not in found.text


def test_a_redis_that_is_away_is_said(make_bench, visit_of):
    bench = make_bench(redis_queue="redis://127.0.0.1:1/0")
    for address in ("/", "/jobs", "/job?site=site1&id=x"):
        found = visit_of(bench).get(address)
        assert found.status_code == 503 and "127.0.0.1:1" in found.text


def test_very_many_sites_and_queues_have_room(make_bench, visit_of):
    bench = make_bench(workers={f"queue-{number}": {"timeout": 60} for number in range(50)})
    for number in range(40):
        bench.write(f"customer-{number}.test/site_config.json", {"db_type": "sqlite"})
    bench.use()
    enqueue("customer-7.test", queue="queue-49")
    visitor = visit_of(bench)
    text = asked(visitor, "/", "queue-49")  # where jobs wait, and not all of them
    assert "customer-7.test" in text and "All 53 queues" in text and "queue-30<" not in text
    assert "queue-30<" in asked(visitor, "/queues", "queue-49")
    for path in ("/jobs", "/schedule", "/tasks"):
        text = visitor.text(path)
        assert text.count('<datalist id="sites">') == 1 and "customer-39.test" in text
    text = visitor.text("/jobs?site=customer-7.test&queue=queue-49")
    assert 'value="customer-7.test"' in text and "acme.tasks.echo" in text


@pytest.mark.parametrize(
    ("host", "desk"),
    [
        ("https://erp.test", "https://erp.test/app"),
        ("erp.test:8000", "https://erp.test:8000/app"),
        ("http://erp.test/x?y", "http://erp.test/app"),
        *((none, None) for none in (None, "", 7, "javascript://x", "https://", "ftp://erp.test",
                                    "https://me:secret@erp.test")),
    ],
)  # fmt: skip
def test_a_link_into_the_desk_leads_to_where_the_site_says_it_is(host, desk):
    assert desk_of({"host_name": host}) == desk
