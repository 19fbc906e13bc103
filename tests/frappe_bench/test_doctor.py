"""``bench doctor`` between RQ and Celery, and what it reads in Frappe's own source."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from frappe_bench.bench import FrappeBench, Process

from frappe_jobs.testing import wait_until

TO_RQ = """
from frappe_jobs.frappe_bench import transport
transport.uninstall()
frappe.enqueue('frappe.ping', queue='long')
"""


@pytest.fixture
def empty(bench: FrappeBench) -> Iterator[FrappeBench]:
    """Nothing waits in RQ's queues, before and after."""

    def drain() -> None:
        assert bench.run("use-celery", "off").returncode == 0
        done = bench.run("worker", "--burst")
        assert done.returncode == 0, done.stdout + done.stderr
        assert bench.run("use-celery", "on").returncode == 0

    drain()
    yield bench
    drain()


def said(bench: FrappeBench) -> dict[str, str]:
    """What ``bench doctor`` says, and how bad it is."""
    done = bench.run("doctor", "--format", "json")
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return {one["what"]: one["level"] for one in json.loads(done.stdout)}


def test_jobs_that_were_left_on_rq_are_told_and_the_cure_runs_them(empty: FrappeBench) -> None:
    text = "Jobs that wait in RQ's queues, and that nobody runs any more: long 1."
    assert text not in said(empty)
    empty.call(TO_RQ)
    assert said(empty)[text] == "error"
    for command in (["use-celery", "off"], ["worker", "--burst"], ["use-celery", "on"]):
        assert empty.run(*command).returncode == 0
    assert text not in said(empty)


def test_rqs_workers_that_still_run_after_the_switch_are_told(empty: FrappeBench) -> None:
    assert empty.run("use-celery", "off").returncode == 0
    stock = Process(empty, "worker", "--queue", "long")
    try:
        wait_until(lambda: "Listening on" in stock.log, 40)
        assert empty.run("use-celery", "on").returncode == 0
        found = said(empty)
        (text,) = [what for what in found if "of RQ (" in what]
        assert "1 worker of RQ (" in text and found[text] in ("error", "warning")
    finally:
        stock.stop()
    assert not [what for what in said(empty) if "of RQ (" in what]


def test_the_versions_of_this_bench_fit(bench: FrappeBench) -> None:
    found = said(bench)
    assert [level for what, level in found.items() if "The versions are those" in what] == ["ok"]
    assert not [what for what in found if "is not installed there" in what]


def test_the_scan_of_frappes_own_source_lists_what_really_cannot_go(bench: FrappeBench) -> None:
    done = bench.run("doctor", "--scan", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    # Bulk mail enqueues a method of an object that is no document.
    wrong = [one["what"] for one in found if one["level"] != "ok"]
    assert len(wrong) == 1 and wrong[0].startswith("frappe/email/doctype/email_queue/"), wrong
    assert bench.run("doctor", "--scan", "--strict").returncode == 1
