"""A site in a test's transaction, on each kind of database: all see it, and none of it stays."""

from __future__ import annotations

from typing import Any

import pytest
from acme.models import Account

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import rolled_back, run_jobs


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def names() -> list[str]:
    return [row["name"] for row in frappe.get_all("Account", order_by="name")]


def test_whoever_opens_the_site_sees_what_is_not_committed_and_nothing_stays(host):
    with frappe.site("site1"):
        frappe.new_doc("Account", name="before").insert()
    with rolled_back("site1"):
        frappe.new_doc("Account", name="mine").insert()
        with frappe.site("site1", user="grete@acme.test"):
            assert names() == ["before", "mine"]
            frappe.new_doc("Account", name="committed").insert()
        with pytest.raises(KeyError), frappe.site("site1"):
            frappe.new_doc("Account", name="rolled back").insert()
            raise KeyError
        assert names() == ["before", "committed", "mine"]
        frappe.db.commit()
        frappe.new_doc("Account", name="not committed").insert()
        frappe.db.rollback()
        assert names() == ["before", "committed", "mine"]
        with frappe.site("site2"):  # another site is another database
            frappe.new_doc("Account", name="elsewhere").insert()
    for site, left in {"site1": ["before"], "site2": ["elsewhere"]}.items():
        with frappe.site(site):
            assert names() == left


def test_it_is_undone_also_when_the_test_fails(host):
    with pytest.raises(AssertionError), rolled_back("site1"):
        frappe.new_doc("Account", name="mine").insert()
        frappe.db.commit()
        raise AssertionError
    with frappe.site("site1"):
        assert names() == []


def test_a_failed_statement_of_a_job_leaves_the_tests_transaction_whole(
    with_redis, host, monkeypatch
):
    # Where acme's jobs leave their marks.
    monkeypatch.setenv("SITES_PATH", str(runtime.current().settings.sites_path))
    with rolled_back("site1"):
        cash = frappe.new_doc("Account", name="cash", balance=1).insert()
        job = frappe.enqueue("acme.once.execute", statement="INSERT INTO nowhere VALUES (1)")
        tracked = frappe.enqueue(cash.deposit, amount=5, track_job=True)
        further = frappe.enqueue("acme.tasks.enqueue_further", rollback=False)
        run_jobs(commit=True, fail_fast=False)
        assert [one.get_status() for one in (job, tracked, further)] == [
            "failed", "finished", "finished",
        ]  # fmt: skip
        assert cash.balance == 6  # as the job has left it
        assert [task["status"] for task in frappe.get_recent_tasks()] == ["Completed"]
    with frappe.site("site1"):
        assert (names(), frappe.get_recent_tasks()) == ([], [])
    assert isinstance(cash, Account)
