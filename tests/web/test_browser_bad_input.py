"""What is wrong, gone or away, in a real browser: it is said in words, and the way on is shown."""

from __future__ import annotations

import re

import pytest
from chaos.servers import Redis
from playwright.sync_api import expect
from web.test_browser import PAGES, Watched
from web.test_browser_actions import admins_page, enqueue, fail, open_form, press, said
from web.visitor import served

import frappe_jobs as frappe
from frappe_jobs import runtime

pytestmark = pytest.mark.timeout(300)

#: What Chromium itself says of a page that came with an error's status.
OF_THE_STATUS = "Failed to load resource: the server responded with a status of "


@pytest.fixture
def watched(guarded, browser):
    """An admin's page, of which a script's fault is none of what is expected."""
    with admins_page(guarded, browser) as seen:
        yield seen
        assert [one for one in seen.wrong if not one.startswith(OF_THE_STATUS)] == []


@pytest.mark.parametrize(
    "query, told",
    [
        ("queue=nope", "known queues"),
        ("status=lost", "lost"),
        ("since=yesterday", "yesterday"),
        ("until=soon&status=failed", "soon"),
        ("cursor=broken", "cursor"),
        ("cursor=eyJhIjogMX0", "cursor"),
    ],
)
def test_a_wrong_address_of_the_list_is_told_and_its_filters_lead_on(watched, query, told):
    page = watched.page
    enqueue(job_name="parcel 9")
    page.goto(f"{watched.address}/jobs?{query}")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(told)
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert page.get_by_text("No job").count() == 0  # that is not known
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("link", name="parcel 9")).to_be_visible()
    expect(alert).to_have_count(0)


def test_a_filter_that_is_typed_wrong_is_told_in_place_and_mended_there(watched):
    page = watched.page
    enqueue(job_name="parcel 9")
    page.goto(f"{watched.address}/jobs")
    page.get_by_text("More filters").click()
    page.get_by_label("Since").fill("yesterday")
    press(page, "Filter")
    expect(page.get_by_role("alert")).to_contain_text("yesterday")
    expect(page.get_by_label("Since")).to_have_value("yesterday")
    watched.check_fit()
    page.get_by_label("Since").fill("2h")
    press(page, "Filter")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("link", name="parcel 9")).to_be_visible()
    page.get_by_role("link", name="All jobs").click()
    expect(page).to_have_url(re.compile("/jobs$"))


@pytest.mark.parametrize(
    "path",
    [
        "/job?site=site1&id=gone", "/job?site=nowhere&id=order", "/job", "/schedule?site=nowhere",
        "/tasks?site=nowhere", "/bulk?do=nothing", "/bulk?do=retry&word=none", "/nowhere",
    ],
)  # fmt: skip
def test_what_is_gone_is_told_with_the_way_back(watched, path):
    page = watched.page
    page.goto(watched.address + path)
    expect(page.get_by_role("heading", name="Not here")).to_be_visible()
    if path == "/nowhere":  # they are all alike
        watched.check_fit()
    page.get_by_role("link", name="To the overview").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_what_is_done_to_a_job_that_is_gone_or_wrongly_is_not_done_and_told(watched):
    page, job = watched.page, enqueue(job_id="order")
    fail(job)
    page.goto(f"{watched.address}/job?site=site1&id=order")
    open_form(page, "Edit and retry")
    page.get_by_label(re.compile("Arguments, as JSON")).fill('{"text": ')
    press(page, "Run with these arguments")
    expect(page.get_by_role("heading", name="Not done")).to_be_visible()
    expect(page.get_by_text("The arguments are not JSON")).to_be_visible()
    assert frappe.get_job("order", site="site1").status == "failed"
    page.go_back()
    expect(page.get_by_role("heading", name="acme.tasks.ping")).to_be_visible()
    job.delete()
    press(page, "Retry")
    expect(page.get_by_role("heading", name="Not here")).to_be_visible()
    assert runtime.current().listing.count_open("site1") == (0, 0)


def test_a_scheduled_job_that_is_wrong_is_not_added_and_told(watched):
    page = watched.page
    for method, frequency, told in (
        ("acme.tasks.nothing", "Daily", "acme.tasks.nothing"),
        ("os.system", "Daily", "os.system"),
        ("acme.tasks.ping", "Sometimes", "Sometimes"),
        ("acme.tasks.ping", "Cron", "cron"),
    ):
        page.goto(f"{watched.address}/schedule?site=site1")
        open_form(page, "Add a scheduled job")
        page.get_by_label("Method").fill(method)
        page.get_by_label("Frequency").fill(frequency)
        press(page, "Add")
        expect(page.get_by_role("heading", name="Not done")).to_be_visible()
        expect(page.get_by_text(told)).to_be_visible()
    assert [*runtime.current().host.schedule.job_types("site1")] == []


def test_who_logs_in_wrongly_is_told_and_then_must_wait(guarded, browser):
    with served(guarded) as address:
        seen = Watched(browser, address)
        page = seen.page
        page.goto(f"{address}/jobs")
        for told in 5 * ["The name or the password is wrong."] + ["That was tried too often."]:
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill("a guess")
            press(page, "Log in")
            expect(page.get_by_role("alert")).to_contain_text(told)
        seen.check_fit()
        assert [one for one in seen.wrong if not one.startswith(OF_THE_STATUS)] == []


def test_while_redis_is_away_every_page_that_is_open_keeps_its_picture_and_comes_back(
    make_bench, browser, tmp_path
):
    with Redis(tmp_path / "redis") as redis:
        bench = make_bench(redis_queue=redis.url)
        bench.use()
        enqueue(job_name="parcel 9", job_id="parcel")
        # For the audit one must log in, Background Tasks are in the site's database, and the doctor
        # is never away: it says what is.
        paths = {*PAGES, "/job?site=site1&id=parcel"} - {"/audit", "/tasks", "/doctor"}
        with served(bench) as address:
            open_ones = [Watched(browser, address) for _ in paths]  # each with its own connections
            for seen, path in zip(open_ones, paths, strict=True):
                seen.page.goto(address + path)
                expect(seen.page.locator("#live")).to_be_visible()
            redis.end()
            for seen in open_ones:
                said(seen.page, "it is renewed by itself")
                expect(seen.page.locator("#live")).to_be_hidden()
                assert len(seen.page.locator("#picture").inner_text()) > 40
            other = Watched(browser, address)
            other.page.goto(f"{address}/jobs")
            expect(other.page.get_by_role("heading", name="Out of reach")).to_be_visible()
            redis.start()
            for seen in open_ones:
                expect(seen.page.locator("#live")).to_be_visible(timeout=60_000)
                expect(seen.page.get_by_role("status")).to_be_hidden()
                assert seen.wrong == []
            other.page.reload()
            expect(other.page.get_by_role("link", name="parcel 9")).to_be_visible()


def test_the_doctors_page_says_that_redis_is_away_and_no_longer_once_it_is_back(
    make_bench, browser, tmp_path
):
    with Redis(tmp_path / "redis") as redis:
        bench = make_bench(redis_queue=redis.url)
        bench.use()
        with served(bench) as address:
            seen = Watched(browser, address)
            seen.page.goto(f"{address}/doctor")
            answers = seen.page.locator(".finding.ok").get_by_text("for messages, records")
            expect(answers).to_be_visible(timeout=60_000)
            redis.end()
            away = seen.page.locator(".finding.error").get_by_text("out of reach")
            expect(away.first).to_be_visible(timeout=90_000)
            redis.start()
            expect(answers).to_be_visible(timeout=90_000)
            expect(away).to_have_count(0)
            assert seen.wrong == []
