"""The doctor's page in a real browser: what is safe to mend is mended by its button."""

from __future__ import annotations

import time

import pytest
from acme import tasks
from doctored import composed, lose, send
from playwright.sync_api import expect
from sqlalchemy import update
from web.test_browser import Watched
from web.visitor import USERS, served

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.message import Sending
from frappe_jobs.standalone.outbox_row import OutboxRow
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(300)

#: Of each cure that is safe: what is wrong, and what is said once it is mended.
OF_A_SITE_THAT_IS_GONE = {
    "RedBeat has entries of sites that do not exist: site2": "that do not exist are gone: site2.",
}
CURES = {
    "2 jobs whose message the broker has lost": "sent again: 2 jobs whose message",
    "1 job never sent": "sent again: 1 job never sent",
    "1 job committed on site1, and not sent": "sent: what was committed on site1.",
    "site1: RedBeat's entries are not as its records say: 1 missing": "records say: site1.",
    "The schedule has a key that no scheduler wrote: 'strange'": "'strange' is made anew.",
}


@pytest.fixture
def sick(make_bench, server):
    """A bench with all wrong that can be mended without risk; four of its jobs would never run."""
    bench = make_bench(
        redis_queue=embedded.running(server), frappe_jobs_web={"users": USERS}, frappe_jobs_lease=2
    )
    here = bench.use()
    embedded.stop(server)
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping, enqueue_after_commit=True)
    with frappe.site("site1"):
        frappe.db.execute(update(OutboxRow).values(written_at=OutboxRow.written_at - 200))
    embedded.start(server)
    send(ago=90)
    send("site2", ago=90)
    lose(bench)
    schedule(bench, "site1")
    here, timetable = bench.use(), runtime.current().timetable
    [entry] = timetable.of_site("site1")
    timetable.replace("site1", timetable.ticket("site1"), [entry], {})
    timetable.redis.zadd(timetable.schedule_key, {"strange": time.time() + 9999})
    here.ledger.record([Sending(composed("site1"))])  # and then its process died
    return bench


def schedule(bench, site):
    add = "--site", site, "scheduled-jobs", "add", "acme.tasks.ping", "--frequency", "Daily"
    assert bench.run(*add).returncode == 0
    bench.use().sync.compare()


def mend(browser, address, cures):
    """By the button, as an admin; what was wrong is gone from the page."""
    seen = Watched(browser, address)
    page = seen.log_in("anna")
    page.goto(f"{address}/doctor")
    for wrong in cures:
        expect(page.locator(".finding").get_by_text(wrong)).to_be_visible(timeout=60_000)
    page.locator("summary").get_by_text(f"Mend {len(cures)} finding").click()
    page.get_by_role("button", name="Mend now").click()
    for mended in cures.values():
        expect(page.get_by_role("status")).to_contain_text(mended)
    for wrong in cures:
        expect(page.locator(".finding").get_by_text(wrong)).to_have_count(0, timeout=60_000)
    expect(page.locator("summary").get_by_text("Mend")).to_have_count(0)
    page.get_by_role("link", name="Audit").click()
    done = page.get_by_role("row").filter(has_text="mend")
    expect(done).to_contain_text([*cures.values()][-1])
    assert seen.wrong == []


def test_each_cure_that_is_safe_is_done_by_the_button(sick, browser):
    with served(sick) as address:
        mend(browser, address, CURES)
    here = runtime.current()
    assert len(here.timetable.of_site("site1")) == 1 and here.broker.depth("default") == 4

    def finished():
        return [*here.listing.latest(["site1", "site2"], ["finished"], ["default"])]

    with sick.worker("--queue", "default"):
        wait_until(lambda: len(finished()) == 4, 20)
    assert {record.attempt for record in finished()} == {1}


def test_so_are_the_entries_of_a_site_that_is_gone(guarded, browser):
    schedule(guarded, "site2")
    (guarded.sites / "site2").rename(guarded.path / "moved")
    with served(guarded) as address:
        mend(browser, address, OF_A_SITE_THAT_IS_GONE)
    assert guarded.use().timetable.sites() == set()


def test_who_may_only_look_is_told_who_mends(guarded, browser):
    send(ago=90)
    lose(guarded)
    with served(guarded) as address:
        seen = Watched(browser, address)
        page = seen.log_in("ria")
        page.goto(f"{address}/doctor")
        told = page.get_by_text("1 finding can be mended without risk to any job: an admin")
        expect(told).to_be_visible(timeout=60_000)
        expect(page.locator("summary").get_by_text("Mend")).to_have_count(0)
        assert seen.wrong == []
