"""A live system with two sites in a real browser: somebody who may see one does all that there is.

A worker and a scheduler run, and the other site has the same jobs.
"""

from __future__ import annotations

import re

import pytest
from acme import tasks
from playwright.sync_api import Page, expect
from web.test_browser import Watched
from web.test_browser_actions import open_form, press, said
from web.visitor import served

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until
from frappe_jobs.web.actions import ACTIONS

pytestmark = pytest.mark.timeout(600)

#: What concerns all sites, and is done in test_browser_actions.py and test_browser_doctor.py.
OF_THE_BENCH = {"pause", "resume", "mend"}
#: In the names of jobs of the site that they may not see.
THEIRS = "nobody's business"


class Visit:
    """Somebody's way through the pages, on which they meet nothing of the other site."""

    def __init__(self, seen: Watched) -> None:
        self.page, self.address, self.done = seen.page, seen.address, set[str]()
        seen.page.on("request", self._note)
        seen.page.on("load", lambda page: self.check(page))

    def _note(self, request) -> None:
        if request.method == "POST" and "/act/" in request.url:
            self.done.add(request.url.rpartition("/")[2])

    def check(self, page: Page) -> None:
        content = page.content()
        assert "site2" not in content and THEIRS not in content, page.url

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)
        self.check(self.page)

    def menu(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(self.page.get_by_role("heading", name=name, level=1)).to_be_visible()
        expect(self.page.locator("#live")).to_be_visible()
        self.check(self.page)


@pytest.fixture
def live(guarded):
    guarded.write("common_site_config.json", guarded.config | {"frappe_jobs_history": True})
    with guarded.worker("--concurrency", "4"), guarded.process("schedule"):
        guarded.use()
        for site, name in (("site1", "ours"), ("site2", THEIRS)):
            with frappe.site(site):
                failed = frappe.enqueue(
                    tasks.fail, text="no price", job_id="failed", job_name=f"{name}, failed"
                )
                frappe.enqueue(tasks.fail, text="no customer", job_id="order")
                for number in range(3):
                    frappe.enqueue_in(
                        3600, tasks.ping, job_name=f"{name}, later", job_id=f"later {number}"
                    )
                frappe.enqueue(
                    tasks.sleep, seconds=120, queue="long", track_job=True, job_id="long",
                    job_name=f"{name}, long",
                )  # fmt: skip
        wait_until(lambda: failed.get_status() == "failed", 30)
        yield guarded
        for site in ("site1", "site2"):  # else the worker would wait for their end
            if long := frappe.get_job("long", site=site):
                long.cancel()


def status(name: str, site: str = "site1") -> str | None:
    job = frappe.get_job(name, site=site)
    return job and job.status


def test_who_sees_one_site_walks_every_page_and_does_all_that_is_offered(live, browser):
    with served(live) as address:
        seen = Watched(browser, address)
        page, visit = seen.log_in("one"), Visit(seen)
        menu = page.get_by_role("navigation", name="Pages").get_by_role("link")
        expect(menu).to_have_text(["Overview", "Jobs", "Schedule", "Background Tasks", "Audit"])
        for name in ("Overview", "Jobs", "Schedule", "Background Tasks", "Audit"):
            visit.menu(name)
        of_one_job(visit)
        of_many_jobs(visit)
        of_the_schedule(visit)
        visit.menu("Audit")
        rows = page.get_by_role("row")
        for deed in ACTIONS.keys() - OF_THE_BENCH:
            expect(rows.filter(has=page.get_by_role("cell", name=deed)).first).to_be_visible()
        assert visit.done == ACTIONS.keys() - OF_THE_BENCH
        assert seen.wrong == []
    their = [status(name, "site2") for name in ("failed", "order", "later 0", "long")]
    assert their == ["failed", "failed", "queued", "started"]


def of_one_job(visit: Visit) -> None:
    page = visit.page
    visit.menu("Background Tasks")
    expect(page.get_by_role("row").filter(has_text="ours, long")).to_contain_text("Running")
    page.get_by_role("link", name="ours, long").click()
    expect(page.get_by_text("It runs")).to_be_visible()
    open_form(page, "Cancel")
    expect(page.get_by_text("its process is killed")).to_be_visible()
    press(page, "Cancel now")
    said(page, "Cancelled")
    wait_until(lambda: status("long") == "cancelled")
    open_form(page, "Delete")
    press(page, "Delete now")
    said(page, "Deleted")
    assert status("long") is None

    visit.go("/job?site=site1&id=failed")
    press(page, "Retry")
    said(page, "Queued again")
    expect(page.get_by_text("ValueError: no price").first).to_be_visible()  # by itself
    open_form(page, "Retry from its start")
    press(page, "Retry from its start now")
    said(page, "Queued again")
    expect(page.get_by_text("ValueError: no price").first).to_be_visible()
    open_form(page, "Edit and retry")
    page.get_by_label(re.compile("Arguments, as JSON")).fill('{"text": "no such thing"}')
    press(page, "Run with these arguments")
    said(page, "with other arguments")
    expect(page.get_by_text("ValueError: no such thing").first).to_be_visible()


def of_many_jobs(visit: Visit) -> None:
    page = visit.page

    def find(box: str) -> None:
        visit.menu("Jobs")
        page.get_by_role("checkbox", name=box).check()
        expect(page).to_have_url(re.compile(f"status={box}"))
        expect(page.get_by_text("All that these filters find")).to_be_visible()

    def do(name: str, count: int) -> None:
        press(page, f"{name} these {count} jobs now")
        expect(page.get_by_role("heading", name="What came of it")).to_be_visible()
        visit.check(page)
        page.get_by_role("link", name="To the jobs").click()

    find("queued")
    page.get_by_role("link", name="Cancel …").click()
    expect(page.get_by_role("heading", name="Cancel 3 jobs?")).to_be_visible()
    page.get_by_role("link", name="Back, without doing it").click()
    expect(page.get_by_role("checkbox", name="queued")).to_be_checked()
    page.get_by_role("link", name="Cancel …").click()
    do("Cancel", 3)
    find("failed")
    page.get_by_role("link", name="Retry …").click()
    failed = len(failed_jobs())
    do("Retry", failed)
    wait_until(lambda: len(failed_jobs()) == failed, 20)  # again
    find("cancelled")
    page.get_by_role("link", name="Delete …").click()
    do("Delete", 3)
    assert status("later 0") is None


def failed_jobs():
    return runtime.current().search(["site1"], statuses=["failed"]).page().records


def of_the_schedule(visit: Visit) -> None:
    page = visit.page
    visit.menu("Schedule")
    open_form(page, "Add a scheduled job")
    page.get_by_label("Method").fill("acme.tasks.ping")
    page.get_by_label("Frequency").fill("Cron")
    page.get_by_label("Expression of a Cron job").fill("* * * * * *")
    page.get_by_label("Against the doctype").fill("Sales Order")
    press(page, "Add")
    said(page, "acme.tasks.ping is scheduled")
    expect(page.get_by_text("of a Scheduler Event")).to_be_visible()
    expect(page.get_by_text("every second")).to_be_visible()
    with frappe.site("site1"):
        [event] = frappe.get_all("Scheduler Event", fields=["method", "scheduled_against"])
    assert event == {"method": "acme.tasks.ping", "scheduled_against": "Sales Order"}
    strip = page.get_by_role("img", name=re.compile("The last .* runs?, 0 of them failed"))
    expect(strip).to_be_visible(timeout=60_000)  # the scheduler queues it, the worker runs it

    open_form(page, "Edit")
    page.get_by_label("Frequency").last.fill("Daily")
    page.get_by_label("Expression of a Cron job").last.fill("")
    page.get_by_label("Queue").select_option("long")
    press(page, "Save")
    said(page, "is changed")
    expect(page.get_by_text("at 00:00 every day")).to_be_visible()
    expect(page.locator(".cardhead").get_by_text("queue long")).to_be_visible()
    press(page, "Run now")
    said(page, "ueued")
    press(page, "Skip the next")
    expect(page.get_by_text("skipped", exact=True)).to_be_visible()
    press(page, "Stop")
    expect(page.locator(".badge").get_by_text("stopped")).to_be_visible()
    press(page, "Start")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    open_form(page, "Delete")
    press(page, "Delete now")
    said(page, "no longer scheduled")
    expect(page.get_by_text("No job is scheduled on site1.")).to_be_visible()
