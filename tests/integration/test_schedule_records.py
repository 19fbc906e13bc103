"""The records that others change, and the methods that need their site to be imported."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone

import pytest
from doctored import one
from integration.test_doctor_schedule import app_of
from integration.test_doctor_schedule import migrated as with_own_app
from integration.test_doctor_schedule import said
from integration.test_hostile_schedule import sql
from integration.test_schedule import entries, keys, migrated, set_due, with_hooks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.doctor.mending import mended
from frappe_jobs.testing import wait_until

DAILY = "acme.tasks.often"
TABLE = "frappe_jobs_scheduled_job_type"


@pytest.fixture
def bench(make_bench):
    bench = make_bench(frappe_jobs_scheduler_lock=3)
    with_hooks(bench, {"daily": [DAILY]})
    bench.use()
    migrated(bench)
    return bench


def midnight(days=0):
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + timedelta(days=days)).timestamp()


def set_last(bench, days):
    at = datetime.now(timezone.utc) + timedelta(days=days)
    sql(bench, f"UPDATE {TABLE} SET last_execution = '{at:%Y-%m-%d %H:%M:%S.%f}'")


def compare():
    assert runtime.current().sync.compare() == {}


def runs(bench):
    return [mark for mark in bench.marks("often") if mark["site"] == "site1"]


class TestLastExecution:
    def test_one_that_was_set_back_by_sql_is_due_by_it_and_runs_once(self, bench):
        set_last(bench, -3)
        compare()
        assert entries()[DAILY] == midnight(-2)
        with bench.worker("--queue", "default"), bench.process("schedule"):
            wait_until(lambda: runs(bench), 20)
            wait_until(lambda: entries()[DAILY] == midnight(1), 10)
            # What ran today, by a backup of the day before: that time has been queued.
            compare()
            set_last(bench, -9)
            compare()
            wait_until(lambda: len(runs(bench)) == 2, 20)  # the record says that it has not run
            wait_until(lambda: entries()[DAILY] == midnight(1), 10)
            compare()
            compare()
        assert len(runs(bench)) == 2

    def test_a_due_time_that_ran_is_not_repeated_by_an_older_backup(self, bench):
        set_due(midnight())
        with bench.worker("--queue", "default"), bench.process("schedule"):
            wait_until(lambda: runs(bench), 20)
            wait_until(lambda: entries()[DAILY] == midnight(1), 10)
        compare()
        for values in ("last_execution = '{}'", "last_execution = '{}', last_due = NULL"):
            yesterday = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(days=1)
            sql(bench, f"UPDATE {TABLE} SET " + values.format(yesterday))
            compare()
            assert entries()[DAILY] == midnight(1)
        assert len(runs(bench)) == 1

    def test_one_in_the_future_is_told_and_set_right_and_stops_nothing(self, bench):
        set_last(bench, 400)
        sql(bench, f"UPDATE {TABLE} SET last_due = {time.time() + 400 * 86400}")
        here = runtime.current().timetable
        here.redis.hset(here._key(next(iter(here.stored("site1").values())).entry.id), "due", 9e9)
        found = one(said("site1"), "1 of a clock that was ahead")
        assert (found.level, "doctor --fix" in found.cure) == ("warning", True)
        assert len([o for o in mended(said("site1")) if o.what.startswith("Mended")]) == 1
        assert entries()[DAILY] == midnight(1)
        assert not [o for o in said("site1") if "ahead" in o.what]
        with frappe.site("site1"):
            (row,) = frappe.get_all("Scheduled Job Type", fields=["*"])
            assert row["last_execution"] <= datetime.now(timezone.utc)
            assert row["next_execution"].timestamp() == midnight(1)
            assert row["last_due"] is None
        set_due(midnight())
        with bench.worker("--queue", "default"), bench.process("schedule"):
            wait_until(lambda: runs(bench), 20)
        assert len(keys("due:site1:*")) == 1


NEEDY = """
from sqlalchemy import text

import frappe_jobs as frappe
from acme.trace import mark

ONE = frappe.db.scalar(text("select 1"))


def run():
    mark("needy", site=frappe.local.site)
"""
SLOW = """
import threading

threading.Event().wait(4.5)


def run():
    pass
"""


class TestMethods:
    def write(self, bench, name, text):
        (bench.path / "acme" / f"{name}.py").write_text(text)

    def test_one_that_asks_its_site_while_it_is_imported_is_queued(self, bench):
        """By processes that have not imported it before."""
        self.write(bench, "needy", NEEDY)
        with_hooks(bench, {"cron": {"* * * * * *": ["acme.needy.run"]}})
        assert "1 added" in migrated(bench)[-1]
        shown = bench.run("--site", "site1", "scheduled-jobs", "show", "acme.needy.run").stdout
        assert "every second" in shown
        found = json.loads(bench.run("doctor", "--format", "json").stdout)
        assert not [row for row in found if "acme.needy" in row["what"]]
        with bench.worker("--queue", "default"), bench.process("schedule") as scheduler:
            wait_until(lambda: len(bench.marks("needy")) > 3, 20)
            assert "is not scheduled" not in scheduler.log
        here = runtime.current().timetable
        here.redis.delete(*here.redis.keys(f"{here.key_prefix}*"))  # as a flush
        with bench.process("schedule"):  # its comparison makes it anew
            wait_until(lambda: entries().keys() == {"acme.needy.run"}, 20)
        assert "is queued" in bench.run(
            "--site", "site1", "scheduled-jobs", "run", "acme.needy.run"
        ).stdout  # fmt: skip

    def test_the_doctor_does_not_blame_the_database_for_a_slow_import(self, bench):
        self.write(bench, "slow", SLOW)
        with_hooks(bench, {"daily": ["acme.slow.run", "acme.tasks.often"]})
        found = json.loads(bench.run("doctor", "--format", "json").stdout)
        assert not [
            row for row in found if "silent" in row["what"] or "cannot be used" in row["what"]
        ]
        row = one(found, "site1: its records are not as its hooks say")
        assert (row["level"], "1 to add" in row["what"]) == ("warning", True)

    def test_one_that_hangs_is_named(self, make_bench, monkeypatch):
        bench = with_own_app(make_bench())  # this process imports it
        method = f"{app_of(bench)}.hangs.run"
        (bench.path / app_of(bench) / "hangs.py").write_text(SLOW.replace("4.5", "60"))
        sql(bench, f"UPDATE {TABLE} SET method = '{method}' WHERE method = '{DAILY}'")
        monkeypatch.setattr("frappe_jobs.doctor.sites.LONG", 1.0)
        error = one(said("site1"), "could not be checked within 1 s")
        assert error.level == "error"
        assert error.what.endswith(f"{method} was still being imported.")
