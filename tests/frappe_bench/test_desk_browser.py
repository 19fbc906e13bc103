"""The Desk's page of the site's jobs in a real browser, logged in to a served Frappe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from browser import chromium
from frappe_bench.bench import EMPTY, WAIT, FrappeBench, Process
from playwright.sync_api import Browser, Page, expect
from ports import free_port

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(300)

HOSTILE = "<img src=x onerror=alert(1)>"
PASSWORD = "a long one of the tests"
#: Where nobody has gone through it the Desk shows Frappe's setup.
SET_UP = (
    "answer = [dict(frappe.get_all('Installed Application', ['name', 'is_setup_complete'], "
    "as_list=True)), frappe.db.get_default('desktop:home_page')]\n"
    "done, home = {0!r}\n"
    "if home:\n"
    "    frappe.db.set_default('desktop:home_page', home)\n"
    "for name, was in done.items():\n"
    "    frappe.db.set_value('Installed Application', name, 'is_setup_complete', was)\n"
    "frappe.clear_cache()"
)
#: ERPNext puts a message over the Desk of a site that has no fiscal year.
FISCAL_YEAR = (
    "answer, day = None, frappe.utils.getdate()\n"
    "if 'erpnext' in frappe.get_installed_apps() and not frappe.db.exists('Fiscal Year', {\n"
    "        'disabled': 0, 'year_start_date': ('<=', day), 'year_end_date': ('>=', day)}):\n"
    "    answer = frappe.get_doc(dict(doctype='Fiscal Year', year=f'probe {day.year}',\n"
    "        year_start_date=day.replace(month=1, day=1),\n"
    "        year_end_date=day.replace(month=12, day=31))).insert().name\n"
    "frappe.clear_cache()"
)
NO_FISCAL_YEAR = "frappe.delete_doc('Fiscal Year', {0!r}); frappe.clear_cache()"
STATUS = (
    "from frappe.utils import background_jobs as jobs\n"
    "answer = jobs.Job.fetch({0!r}).get_status()"
)
NEW_PASSWORD = (
    "from frappe.utils.password import update_password\n"
    f"update_password('Administrator', {PASSWORD!r})"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(_bench: FrappeBench) -> Iterator[str]:
    """Where the first site is served."""
    assets = json.loads((_bench.sites / "assets" / "assets.json").read_text())
    if "desk.bundle.js" not in assets:
        pytest.skip("The Desk's scripts are not built: bench build --app frappe")
    config, port = _bench.config, free_port()
    _bench.write_config(config | {"disable_async": 1})  # nothing else of the bench runs
    was_set_up = _bench.call(SET_UP.format(({}, "workspace")))
    _bench.call(SET_UP.format((dict.fromkeys(was_set_up[0], 1), "workspace")))
    fiscal_year = _bench.call(FISCAL_YEAR)
    _bench.call(NEW_PASSWORD)
    serve = ("--site", _bench.site, "serve", "--port", str(port), "--noreload")
    process = Process(_bench, *serve)
    try:
        wait_until(lambda: f":{port}" in process.log or process.process.poll() is not None, 60)
        assert process.process.poll() is None, process.log
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()
        if fiscal_year:
            _bench.call(NO_FISCAL_YEAR.format(fiscal_year))
        _bench.call(SET_UP.format(was_set_up))
        _bench.write_config(config)


class Desk:
    """A browser that has logged in, and what went wrong in it."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address, self.wrong = page, address, list[str]()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: (self.wrong.append("a dialog"), dialog.dismiss()))

    def go(self, path: str) -> None:
        self.page.goto(f"{self.address}/app/celery-jobs{path}")

    def menu(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()


@pytest.fixture
def desk(browser: Browser, address: str) -> Iterator[Desk]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    form = {"usr": "Administrator", "pwd": PASSWORD}
    assert context.request.post(f"{address}/api/method/login", form=form).ok
    desk = Desk(context.new_page(), address)
    yield desk
    context.close()
    assert desk.wrong == []


@contextmanager
def asked(desk: Desk) -> Iterator[list[str]]:
    """The methods of the page's that are called meanwhile."""
    calls: list[str] = []

    def note(request) -> None:
        if "celery_jobs.celery_jobs." in request.url:
            calls.append(f"{request.method} {request.url.rpartition('.')[2]}")

    desk.page.on("request", note)
    yield calls
    desk.page.remove_listener("request", note)


def test_a_job_is_found_looked_at_and_cancelled(
    bench: FrappeBench, worker: Process, desk: Desk
) -> None:
    bench.call(EMPTY)
    ours, theirs = f"our order {uuid4()}", f"theirs {uuid4()}"
    waits, others = (
        bench.call(
            WAIT + f"wait(frappe.enqueue('probe.tasks.write_todo', text={HOSTILE!r}, "
            f"fail=True, job_name={HOSTILE!r}))\n"
            f"answer = frappe.enqueue('probe.tasks.nothing', queue='long', job_name={name!r}).id",
            site=site,
        )
        for name, site in ((ours, bench.site), (theirs, bench.other_site))
    )
    page = desk.page
    desk.go("")
    expect(page.get_by_role("heading", name="What runs now")).to_be_visible()
    desk.menu("Jobs")
    expect(page.get_by_text(ours)).to_be_visible()
    assert page.url.startswith(f"{desk.address}/app/celery-jobs/jobs")
    assert HOSTILE in page.locator("main.within").inner_text()
    assert theirs not in page.locator("main.within").inner_text()
    page.get_by_role("link", name=ours).click()
    page.locator("summary", has_text="Cancel").click()
    with asked(desk) as calls:
        page.locator("details[open] form[action='/act/cancel'] button").click()
        expect(
            page.locator("#alert-container, .desk-alert").get_by_text("Cancelled")
        ).to_be_visible()
    assert "POST act" in calls and not [one for one in calls if one.startswith("GET")]
    assert bench.call(STATUS.format(waits)) == "canceled"
    page.go_back()
    expect(page.get_by_text(ours)).to_be_visible()
    assert bench.call(STATUS.format(others), site=bench.other_site) == "queued"


def test_filters_are_in_the_address_and_what_comes_is_shown_by_itself(
    bench: FrappeBench, worker: Process, desk: Desk
) -> None:
    first, second = f"the first {uuid4()}", f"comes later {uuid4()}"
    send = "frappe.enqueue('probe.tasks.nothing', queue='long', job_name={0!r})"
    bench.call(EMPTY + send.format(first))
    page = desk.page
    desk.go("/jobs")
    expect(page.get_by_text(first)).to_be_visible()
    page.get_by_label("queued").check()
    wait_until(lambda: "status=queued" in page.url or "status%3Dqueued" in page.url, 20)
    page.reload()
    expect(page.get_by_label("queued")).to_be_checked()
    expect(page.get_by_text(first)).to_be_visible()
    bench.call(send.format(second))
    expect(page.get_by_text(second)).to_be_visible()


def test_it_follows_the_desks_theme_and_fits_a_telephone(
    bench: FrappeBench, worker: Process, desk: Desk
) -> None:
    page = desk.page
    desk.go("")
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()

    def scheme() -> str:
        look = "one => getComputedStyle(one.getRootNode().host).colorScheme"
        return str(page.locator("main.within").evaluate(look))

    for theme in ("dark", "light"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        wait_until(lambda wanted=theme: scheme() == wanted, 10)
    page.set_viewport_size({"width": 360, "height": 740})
    for name in ("Overview", "Jobs", "Schedule", "Background Tasks", "Audit"):
        desk.menu(name)
        expect(page.get_by_role("navigation", name="Pages").get_by_role(
            "link", name=name)).to_have_attribute("aria-current", "page")  # fmt: skip
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, name
