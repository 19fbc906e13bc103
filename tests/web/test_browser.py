"""The pages in a real browser: every page, on a telephone and on a desk, dark and light.

With ``PICTURES=docs/pictures`` the docs' pictures are made anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from acme import tasks
from playwright.sync_api import Browser, Page, expect
from web.visitor import PASSWORD, served

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

#: A queue.
LONG = "sync-to-the-warehouse-management-system-of-the-customer"
HOSTILE = "<img src=x onerror=alert(1)>" + "long-" * 30
FURTHER = (
    "/job?site=site1&id=failed", "/jobs?status=failed&error=price&since=2h&site=site1",
    "/bulk?do=delete&status=failed", "/bulk?do=cancel&job=none",
)  # fmt: skip
PAGES = ("/", "/jobs", "/queues", "/schedule", "/tasks", "/doctor", "/audit")
SIZES = [(1440, 900, "light"), (1440, 900, "dark"), (360, 740, "light"), (360, 740, "dark")]
#: Between those and on both sides of where the pages look otherwise: nothing is cut off there.
WIDTHS = (360, 500, 800, 801, 900, 960, 961, 1024, 1100, 1200, 1201, 1440)
#: The pictures of the docs: which page is on each, and those of a telephone, in the dark.
PICTURES, SHOP = os.environ.get("PICTURES"), Path(__file__).parents[2] / "examples" / "shop"
SHOWN = {
    "overview": "/", "jobs": "/jobs", "job": "/jobs?status=failed", "queues": "/queues",
    "bulk": "/bulk?do=retry&since=1h", "schedule": "/schedule", "tasks": "/tasks",
    "doctor": "/doctor", "audit": "/audit",
}  # fmt: skip
IN_THE_HAND = ("overview", "jobs", "schedule")
#: Nothing on them tells of the machine on which they were made.
ANYWHERE = """place => { for (const one of document.querySelectorAll("main p"))
  one.innerHTML = one.innerHTML.replaceAll(place, "") }"""
#: What ends the demo that they show.
STOP = (
    "import sys; sys.path.insert(0, sys.argv[1]); import demo; demo.stop_old(demo.STAGE / 'sites')"
)
#: Tables that must be scrolled sideways, what stands out of the window (the menu may), and what a
#: form has that stands out of its place.
TOO_WIDE = """() => [
  ...[...document.querySelectorAll(".scroll")].filter((one) => one.scrollWidth > one.clientWidth),
  ...[...document.querySelectorAll("main *")].filter(
    (one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1
      && !one.closest("pre, .skip")),
  ...[...document.querySelectorAll("main :is(input, select, textarea, button)")].filter((one) =>
    one.checkVisibility() && one.getBoundingClientRect().right
      > one.parentElement.getBoundingClientRect().right + 1),
].map((one) => `<${one.localName} class="${one.className}"> ${one.innerText ?? ""}`.slice(0, 80))"""
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js")
#: What axe counts as harm to people.
HARM = ("serious", "critical")


class Watched:
    """A page whose errors, and what it asks of others, are noted."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.page: Page = browser.new_context().new_page()
        self.wrong: list[str] = []
        self.address = address
        page = self.page
        page.set_default_timeout(60_000)
        self.show(*SIZES[0])
        page.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: (self.wrong.append("a dialog"), dialog.dismiss()))
        page.on("request", self._check)

    def show(self, width: int, height: int, scheme: str) -> None:
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme=scheme)

    def _check(self, request) -> None:
        if not request.url.startswith(self.address):
            self.wrong.append(f"asked {request.url}")

    def cut_off(self) -> list[str]:
        """What is wider than its place: to be scrolled, or not seen at all; at any width."""
        found = []
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": 900})
            wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            found += [f"at {width} the page by {wide}"] if wide > 0 else []
            found += [f"at {width} {one}" for one in self.page.evaluate(TOO_WIDE)]
        return found

    def check_fit(self) -> None:
        """The page as it is loaded, all that can be opened open, at all widths, dark and light."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert self.cut_off() == [], self.page.url
        for size in SIZES:
            self.show(*size)
            assert self.harm() == [], f"{self.page.url} at {size}"

    def log_in(self, name: str, password: str = PASSWORD) -> Page:
        self.page.goto(f"{self.address}/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()
        return self.page

    def harm(self) -> list[str]:
        """What hinders people who do not see, or see badly, or use no mouse."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("() => axe.run(document)")["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in HARM]


@pytest.fixture
def busy(guarded):
    """A bench with jobs of every kind on two sites, and a worker."""
    more = {"frappe_jobs_history": True, "workers": {LONG: {"timeout": 300}}}
    guarded.write("common_site_config.json", guarded.config | more)
    with guarded.worker("--concurrency", "4"):
        running = []
        for site in ("site1", "site2"):
            with frappe.site(site):
                failed = frappe.enqueue(
                    tasks.fail, text="order ORD-7 has no price", job_id="failed"
                )
                long = frappe.enqueue(tasks.sleep, seconds=120, queue="long", track_job=True)
                running.append(long)
                frappe.enqueue(tasks.echo, job_name=HOSTILE, text=HOSTILE, api_token="s3cret")
        wait_until(lambda: failed.get_status() == "failed", 30)
        yield guarded
        for job in running:  # else the worker would wait for their end
            job.cancel()


@pytest.mark.timeout(600)
def test_every_page_is_fit_for_everybody(busy, browser):
    with served(busy) as address:
        seen = Watched(browser, address)
        page = seen.log_in("anna")
        for path in (*PAGES, *FURTHER):
            page.goto(address + path)
            if "bulk" not in path:  # which is still
                expect(page.locator("#live")).to_be_visible()
            if path == "/":
                expect(page.get_by_text("processes busy")).to_be_visible()
            seen.check_fit()
        assert seen.wrong == []


@pytest.mark.skipif(not PICTURES, reason="PICTURES=docs/pictures makes the pictures anew.")
@pytest.mark.timeout(300)
def test_the_docs_pictures_show_the_demos_shop(browser):
    demo = SHOP / "demo.py"
    done = subprocess.run([sys.executable, demo, "--keep"], capture_output=True, text=True)
    try:
        assert done.returncode == 0, done.stdout
        address = re.search(r"The pages: (http://\S+)/", done.stdout)[1]
        name, password = re.search(
            r"log in as (\S+), with the password (\S+)", done.stdout
        ).groups()
        seen = Watched(browser, address)
        page = seen.log_in(name, password)
        expect(page.get_by_text("shop.tasks.charge_card").first).to_be_visible()
        expect(page.get_by_text("process busy").first).to_be_visible()
        for name, path in SHOWN.items():
            page.goto(address + path)
            if name == "job":
                page.get_by_role("link", name="shop.tasks.charge_card").first.click()
            if name != "bulk":  # which is still
                expect(page.locator("#live")).to_be_visible()
            if name == "doctor":
                expect(page.locator(".finding").first).to_be_visible()
            page.wait_for_timeout(3_000)  # its figures come within seconds
            page.evaluate(ANYWHERE, str(SHOP.parents[1]))
            page.screenshot(path=Path(PICTURES) / f"web-{name}.png")
            if name in IN_THE_HAND:
                seen.show(*SIZES[-1])
                page.screenshot(path=Path(PICTURES) / f"web-{name}-telephone.png")
                seen.show(*SIZES[0])
        assert seen.wrong == []
    finally:
        subprocess.run([sys.executable, "-c", STOP, SHOP], check=True, cwd=SHOP)


def test_a_failed_job_is_edited_and_run_again(busy, browser):
    with served(busy) as address:
        seen = Watched(browser, address)
        page = seen.log_in("anna")
        page.goto(f"{address}/jobs?status=failed&site=site1")
        page.get_by_role("link", name="acme.tasks.fail").click()
        expect(page.get_by_text("ValueError: order ORD-7 has no price").first).to_be_visible()
        page.get_by_text("Edit and retry").click()
        page.get_by_label(re.compile("Arguments, as JSON")).fill('{"text": "another"}')
        page.get_by_role("button", name="Run with these arguments").click()
        expect(page.get_by_role("status")).to_contain_text("Queued again")
        expect(page.get_by_text("ValueError: another").first).to_be_visible()  # by itself
        page.get_by_role("link", name="Audit").click()
        expect(page.get_by_role("row").filter(has_text="edit")).to_have_count(1)
        assert seen.wrong == []


def test_who_sees_one_site_meets_nothing_of_the_other(busy, browser):
    with served(busy) as address:
        seen = Watched(browser, address)
        page = seen.log_in("reader")
        for path in ("/", "/jobs", "/schedule", "/tasks"):
            page.goto(address + path)
            assert "site2" not in page.content()
        expect(page.get_by_role("link", name="Doctor")).to_have_count(0)
        assert seen.wrong == []


def test_a_page_outlives_its_server_and_keeps_its_picture(busy, browser):
    with served(busy) as address:
        seen = Watched(browser, address)
        page = seen.log_in("ria")
        page.goto(f"{address}/jobs")
        expect(page.locator("#live")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("does not answer")
    expect(page.get_by_role("link", name="acme.tasks.fail").first).to_be_visible()


def test_by_keyboard_from_the_list_to_a_job(busy, browser):
    with served(busy) as address:
        seen = Watched(browser, address)
        page = seen.log_in("ria")
        page.goto(f"{address}/jobs")
        failed = page.get_by_role("checkbox", name="failed")
        failed.focus()
        page.keyboard.press("Space")  # the filter changes the list, and takes nobody elsewhere
        expect(page.get_by_text("finished", exact=True).locator("visible=true")).to_have_count(1)
        assert page.url.endswith("/jobs?status=failed")
        expect(failed).to_be_focused()
        failed.blur()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="acme.tasks.fail")).to_be_visible()
        assert seen.wrong == []
