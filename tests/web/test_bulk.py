"""What is done to all the jobs that filters find."""

from __future__ import annotations

import re

import pytest
from acme import tasks
from web.visitor import asked

import frappe_jobs as frappe
from frappe_jobs import runtime

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def jobs(guarded):
    """On each site 40 jobs that were cancelled, and one of another method that waits."""
    found = {}
    for site in ("site1", "site2"):
        with frappe.site(site):
            found[site] = frappe.enqueue_many(
                {"method": tasks.echo, "queue": "long", "job_name": HOSTILE, "number": number}
                for number in range(40)
            )
            frappe.enqueue(tasks.ping)
        for job in found[site]:
            job.cancel()
    return found


def word_in(text):
    [word] = re.findall(r'name="word" value="([\w-]{22})"', text)
    return word


def newest(job):
    return frappe.get_job(job.id, job.site)


def count(site, status):
    found = runtime.current().search([site], statuses=[status]).page(limit=200)
    return len(found.records)


def test_many_jobs_are_retried_cancelled_and_deleted(known, jobs):
    anna = known("anna")
    listed = anna.text("/jobs?status=cancelled&queue=long")
    assert 'href="/bulk?do=retry&amp;status=cancelled&amp;queue=long' in listed.replace("&#38;", "")
    assert "do=delete" in listed and "do=cancel" not in listed

    # What was shown is retried: with its count, its filters, and nothing that is markup.
    text = anna.text("/bulk?do=retry&status=cancelled&queue=long")
    assert "Retry these 80 jobs now" in text and "<title>Retry 80 jobs? · " in text
    assert "status cancelled" in text and "queue long" in text
    assert "acme.tasks.echo" in text and "acme.tasks.ping" not in text and "<img" not in text
    word = word_in(text)
    jobs["site1"][0].requeue()  # by somebody else, meanwhile
    jobs["site1"][1].delete()
    found = anna.submit("/act/bulk-retry", word=word)
    assert (found.status_code, found.headers["location"]) == (
        303, f"/bulk?do=retry&word={word}",
    )  # fmt: skip
    text = asked(anna, f"/bulk?do=retry&word={word}", "What came of it")
    assert "Queued again: 78 jobs." in text and "2 that are no longer kept" in text
    assert count("site1", "queued") == 40 and count("site2", "queued") == 41
    again = anna.submit("/act/bulk-retry", word=word)
    assert again.status_code == 400 and "begun before" in again.text

    # The audit says what was done to how many, and what came of it.
    audit = anna.text("/audit")
    assert "80 jobs: 40 cancelled acme.tasks.echo of site1" in audit
    assert "Queued again: 78 jobs." in audit and "not done: That was begun before" in audit

    # Without a status cancel takes those that wait or run, delete those that have ended.
    text = anna.text("/bulk?do=cancel&site=site2")
    assert "Cancel 41 jobs?" in text and "status queued or started" in text
    word = word_in(text)
    newest(jobs["site2"][0]).cancel()
    assert anna.submit("/act/bulk-cancel", word=word).status_code == 303
    text = asked(anna, f"/bulk?do=cancel&word={word}", "What came of it")
    assert "Cancelled: 40 jobs." in text and "1 that have changed meanwhile" in text
    assert count("site2", "queued") == 0 and count("site1", "queued") == 40
    word = word_in(anna.text("/bulk?do=delete&method=acme.tasks.echo&site=site2"))
    assert anna.submit("/act/bulk-delete", word=word).status_code == 303
    assert "Deleted: 40 jobs." in asked(anna, f"/bulk?do=delete&word={word}", "What came of it")
    assert count("site2", "cancelled") == 1


def test_nobody_does_to_many_what_they_may_not_do_to_one(known, jobs):
    anna, one, otto, ria = (known(name) for name in ("anna", "one", "otto", "ria"))
    # A role that is too low sees no button, no page, and is refused.
    assert "/bulk" not in ria.text("/jobs?status=cancelled")
    text = otto.text("/jobs?status=cancelled")
    assert "do=retry" in text and "do=delete" not in text
    for visitor, name in ((ria, "retry"), (ria, "cancel"), (otto, "delete")):
        assert visitor.get(f"/bulk?do={name}&queue=long").status_code == 404
        word = word_in(anna.text(f"/bulk?do={name}&status=cancelled"))
        found = visitor.submit(f"/act/bulk-{name}", word=word)
        assert found.status_code == 400 and "is for the role" in found.text

    # Who sees one site finds its jobs alone, and has no use for another's word.
    text = one.text("/bulk?do=retry&status=cancelled")
    assert "Retry 40 jobs?" in text and "site2" not in text
    word = word_in(anna.text("/bulk?do=retry&status=cancelled"))
    assert one.submit("/act/bulk-retry", word=word).status_code == 404
    assert count("site1", "cancelled") == 40
    assert anna.submit("/act/bulk-retry", word=word).status_code == 303
    asked(anna, f"/bulk?do=retry&word={word}", "What came of it")
    gone = one.get("/bulk?do=retry&word=" + "x" * 22)
    found = one.get(f"/bulk?do=retry&word={word}")
    assert (found.status_code, found.text) == (gone.status_code, gone.text) == (404, gone.text)


def test_a_wrong_choice_says_what_is_legal_and_does_nothing(known, jobs):
    anna = known("anna")
    for query, code, said in (
        ("do=retry", 400, "by a filter first"),
        ("do=retry&site=", 400, "by a filter first"),
        ("do=nope&queue=long", 404, ""),
        ("queue=long", 404, ""),
        ("do=retry&queue=nope", 400, "known queues"),
        ("do=retry&status=done", 400, "There is no status"),
        ("do=retry&site=nope", 400, "There is no site"),
        ("do=retry&since=yesterday", 400, "is no time"),
        ("do=retry&user=nobody", 200, "No job matches these filters"),
        (f"do=retry&user={HOSTILE}", 200, "&lt;img"),
    ):
        found = anna.get(f"/bulk?{query}")
        assert found.status_code == code and said in found.text, query
        assert "<img" not in found.text and "Traceback" not in found.text
    for word in ("", "x", "x" * 22, "../jobs", HOSTILE):
        found = anna.submit("/act/bulk-delete", word=word)
        assert found.status_code == 400 and "no longer known" in found.text
    word = word_in(anna.text("/bulk?do=delete&status=cancelled"))
    for form in ({"word": word}, {"word": word, "token": known("ria").token()}):
        assert anna.post("/act/bulk-delete", data=form).status_code == 403
    evil = {"origin": "http://evil.example"}
    form = {"word": word, "token": anna.token()}
    assert anna.post("/act/bulk-delete", data=form, headers=evil).status_code == 403
    assert anna.get("/act/bulk-delete", params=form).status_code == 405
    assert count("site1", "cancelled") == 40
