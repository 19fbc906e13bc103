"""Each action of the pages, done in a real browser: the forms, what is said, and what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from acme import tasks
from chaos.servers import Redis
from playwright.sync_api import Page, expect
from web.test_browser import Watched
from web.visitor import served

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.ledger.record import FAILED

pytestmark = pytest.mark.timeout(300)


@contextmanager
def admins_page(guarded, browser) -> Iterator[Watched]:
    """An admin's page, of a bench where no worker runs."""
    with served(guarded) as address:
        seen = Watched(browser, address)
        seen.log_in("anna")
        yield seen


@pytest.fixture
def watched(guarded, browser):
    """Nothing may go wrong there."""
    with admins_page(guarded, browser) as seen:
        yield seen
        assert seen.wrong == []


@pytest.fixture
def page(watched) -> Page:
    return watched.page


def enqueue(**options):
    with frappe.site("site1"):
        return frappe.enqueue(tasks.ping, **options)


def fail(job, reason="ValueError: no price"):
    ledger = runtime.current().ledger
    ledger.end(ledger.read(job.message_id).message, FAILED, {"reason": reason, "error": "E"})


def said(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(text)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def open_form(page: Page, title: str) -> None:
    page.locator("summary").get_by_text(title, exact=True).click()


def test_a_job_is_retried_cancelled_and_deleted(watched, page):
    job = enqueue(job_id="order")
    fail(job)
    page.goto(f"{watched.address}/job?site=site1&id=order")
    press(page, "Retry")
    said(page, "Queued again")
    assert frappe.get_job("order", site="site1").status == "queued"
    open_form(page, "Cancel")
    press(page, "Cancel now")
    said(page, "ancelled")
    assert frappe.get_job("order", site="site1").status == "cancelled"
    open_form(page, "Delete")
    press(page, "Delete now")
    expect(page).to_have_url(re.compile("/jobs"))
    assert frappe.get_job("order", site="site1") is None


def test_what_filters_find_is_retried_and_how_far_it_is_is_shown(watched, page):
    for number in range(30):
        fail(enqueue(job_id=f"order {number}"))
    page.goto(f"{watched.address}/jobs?status=failed&method=acme.tasks.ping")
    page.get_by_role("link", name="Retry …").click()
    expect(page.get_by_role("heading", name="Retry 30 jobs?")).to_be_visible()
    press(page, "Retry these 30 jobs now")
    expect(page.get_by_role("heading", name="What came of it")).to_be_visible()
    assert runtime.current().listing.count_open("site1") == (30, 0)


def test_a_queue_is_paused_and_resumed(watched, page):
    page.goto(f"{watched.address}/queues")
    press(page, "Pause long")
    expect(page.get_by_role("button", name="Resume long")).to_be_visible()
    assert runtime.current().ledger.paused_queues() == {"long"}
    press(page, "Resume long")
    expect(page.get_by_role("button", name="Pause long")).to_be_visible()
    assert runtime.current().ledger.paused_queues() == set()


def test_a_scheduled_job_is_added_edited_skipped_stopped_run_and_deleted(watched, page):
    def job_type():
        [found] = runtime.current().host.schedule.job_types("site1")
        return found

    page.goto(f"{watched.address}/schedule?site=site1")
    open_form(page, "Add a scheduled job")
    page.get_by_label("Method").fill("acme.tasks.ping")
    page.get_by_label("Frequency").fill("Daily")
    press(page, "Add")
    expect(page.get_by_role("heading", name="acme.tasks.ping")).to_be_visible()
    open_form(page, "Edit")
    page.get_by_label("Frequency").last.fill("Cron")
    page.get_by_label("Expression of a Cron job").last.fill("0 9 * * 1-5")
    press(page, "Save")
    expect(page.get_by_text("0 9 * * 1-5").first).to_be_visible()
    press(page, "Skip the next")
    expect(page.get_by_text("skipped", exact=True)).to_be_visible()
    press(page, "Stop")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    assert job_type().stopped
    press(page, "Start")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    assert not job_type().stopped
    press(page, "Run now")
    said(page, "ueued")
    assert runtime.current().listing.count_open("site1") == (1, 0)
    open_form(page, "Delete")
    press(page, "Delete now")
    expect(page.get_by_role("heading", name="acme.tasks.ping")).to_have_count(0)
    assert [*runtime.current().host.schedule.job_types("site1")] == []


def test_who_logs_out_sees_nothing_more(watched, page):
    press(page, "Log out")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{watched.address}/jobs")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_job_that_is_deleted_while_its_page_is_open_is_said_to_be_gone(watched, page):
    job = enqueue(job_id="order")
    page.goto(f"{watched.address}/job?site=site1&id=order")
    expect(page.locator("#live")).to_be_visible()
    job.delete()
    said(page, "There is nothing here")
    expect(page.get_by_role("heading", name="acme.tasks.ping")).to_be_visible()


def test_while_redis_is_away_the_last_picture_stays_and_it_comes_back_by_itself(
    make_bench, browser, tmp_path
):
    with Redis(tmp_path / "redis") as redis:
        bench = make_bench(redis_queue=redis.url)
        bench.use()
        enqueue(job_name="parcel 9")
        with served(bench) as address:
            seen = Watched(browser, address)
            seen.page.goto(f"{address}/jobs")
            expect(seen.page.locator("#live")).to_be_visible()
            redis.end()
            said(seen.page, "it is renewed by itself")
            expect(seen.page.get_by_role("link", name="parcel 9")).to_be_visible()
            expect(seen.page.locator("#live")).to_be_hidden()
            redis.start()
            expect(seen.page.locator("#live")).to_be_visible()
            expect(seen.page.get_by_role("status")).to_be_hidden()
            assert seen.wrong == []


def test_by_pages_and_by_keyboard_through_a_long_list(watched, page):
    with frappe.site("site1"):
        frappe.enqueue_many(
            {"method": tasks.ping, "job_name": f"parcel {number}"} for number in range(130)
        )
    page.goto(f"{watched.address}/jobs")
    newest = page.get_by_role("link", name="parcel 129", exact=True)
    expect(newest).to_be_visible()
    first, second = (page.locator("tr[data-row]").nth(number) for number in range(2))
    for key, row in [("j", first), ("j", second), ("k", first), ("k", first)]:
        page.keyboard.press(key)
        expect(row.get_by_role("link").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator(".filters input, .filters select").first).to_be_focused()
    page.keyboard.press("j")  # is typed, or chooses, and goes nowhere
    expect(page.locator("tr.chosen")).to_have_count(1)
    page.get_by_role("link", name="Older jobs").click()
    expect(newest).to_have_count(0)
    while (older := page.get_by_role("link", name="Older jobs")).count():
        address = page.url
        older.click()
        expect(page).not_to_have_url(address)
    expect(page.get_by_role("link", name="parcel 0", exact=True)).to_be_visible()
    page.goto(f"{watched.address}/jobs")
    expect(newest).to_be_visible()
