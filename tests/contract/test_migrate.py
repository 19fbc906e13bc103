"""Migrates of one site at the same moment, on every database."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.errors import RecordNotWritten
from frappe_jobs.host.schedule_records import ScheduledJob
from frappe_jobs.scheduler.sync import Plan
from frappe_jobs.standalone.models import Base, SchedulerEvent
from frappe_jobs.testing import wait_until

BEFORE = {"daily": ["acme.tasks.ping"], "weekly": ["acme.tasks.whoami"]}
#: One is changed, one removed, the others are new.
AFTER = {
    "hourly": ["acme.tasks.ping"],
    "cron": {"0 4 * * *": ["acme.tasks.add", "acme.tasks.fail"]},
}
METHODS = ["acme.tasks.add", "acme.tasks.fail", "acme.tasks.ping"]

#: A command that reads these hooks says so, and goes on when all of them have come here.
GATE = """
import os

open({folder!r} + f"/{{os.getpid()}}.here", "w").close()
open({folder!r} + "/gate").close()
"""


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def bench(server: Any, host: Any, make_bench: Any) -> Any:
    """Its site lies in that database, which has the tables, all empty."""
    bench = make_bench()
    bench.write("site1/site_config.json", server.config("site1"))
    return bench


def with_hooks(bench: Any, events: dict[str, Any], first: str = "") -> None:
    text = f"{first}\nscheduler_events = {events!r}\n"
    bench.path.joinpath("acme", "hooks.py").write_text(text)


def migrated(bench: Any) -> None:
    done = bench.run("--site", "site1", "migrate")
    assert done.returncode == 0, done.stderr


def at_once(bench: Any, events: dict[str, Any], folder: Path, count: int = 4) -> list[str]:
    """What so many commands say that begin to plan at the same moment; all of them end well."""
    gate = folder / "gate"
    os.mkfifo(gate)
    with_hooks(bench, events, GATE.format(folder=str(folder)))
    with ThreadPoolExecutor(count) as typists:
        done = [typists.submit(bench.run, "--site", "site1", "migrate") for _ in range(count)]
        wait_until(lambda: len([*folder.glob("*.here")]) == count, 30)
        with gate.open("w"):
            found = [one.result() for one in done]
    assert [one.returncode for one in found] == [0] * count, found
    return [one.stdout.splitlines()[-1] for one in found]


def in_force(bench: Any) -> list[str]:
    """The methods of the site's records; of its entries, too."""
    bench.use()
    with frappe.site("site1"):
        names = {one["name"]: one["method"] for one in frappe.get_all(
            "Scheduled Job Type", fields=["name", "method"]
        )}  # fmt: skip
    assert {*runtime.current().timetable.of_site("site1")} == {*names}
    return sorted(names.values())


def sums(lines: list[str]) -> list[int]:
    """How many records all of them have added, changed and removed."""
    found = [
        [int(one) for one in re.findall(r"(\d+) (?:added|changed|removed)", line)] for line in lines
    ]
    return [sum(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize("has_tables", [True, False])
def test_each_new_record_is_added_by_one_of_them(
    bench: Any, host: Any, tmp_path: Path, has_tables: bool
) -> None:
    with host.session("site1") as session:
        engine = session.db.get_bind()
    if not has_tables:
        Base.metadata.drop_all(engine)
    try:
        lines = at_once(bench, AFTER, tmp_path)
    finally:
        Base.metadata.create_all(engine)
    assert in_force(bench) == METHODS
    assert sums(lines) == [3, 0, 0]


def test_while_another_one_makes_the_tables_there_are_no_records_yet(host: Any) -> None:
    with host.session("site1") as session:
        engine = session.db.get_bind()
    Base.metadata.tables[SchedulerEvent.__tablename__].drop(engine)
    try:
        assert host.schedule.job_types("site1") == []
    finally:
        Base.metadata.create_all(engine)


def test_each_old_record_is_changed_or_removed_and_none_is_twice_there(
    bench: Any, tmp_path: Path
) -> None:
    with_hooks(bench, BEFORE)
    migrated(bench)
    lines = at_once(bench, AFTER, tmp_path)
    assert in_force(bench) == METHODS
    assert (sums(lines)[0], sums(lines)[2]) == (2, 1)


def jobs(*methods: str) -> list[ScheduledJob]:
    return [ScheduledJob(f"acme.tasks.{name}", "Daily") for name in methods]


def test_what_another_one_has_added_is_refused_and_nothing_is_changed(host: Any) -> None:
    [before] = host.schedule.change_job_types("site1", jobs("ping"), {}, [])
    with pytest.raises(RecordNotWritten, match="'site1' were changed by another process"):
        host.schedule.change_job_types("site1", jobs("add", "ping"), {}, [])
    assert host.schedule.job_types("site1") == [before]


def test_what_another_one_has_removed_is_refused_and_nothing_is_changed(host: Any) -> None:
    before, after = host.schedule.change_job_types("site1", jobs("ping", "add"), {}, [])
    host.schedule.change_job_types("site1", [], {}, [before.name])
    for change, remove in (({}, [before.name]), ({before.name: jobs("fail")[0]}, [])):
        with pytest.raises(RecordNotWritten, match="'site1' were changed by another process"):
            host.schedule.change_job_types("site1", jobs("whoami"), change, remove)
    assert host.schedule.job_types("site1") == [after]


def test_who_compares_before_the_commit_does_not_keep_the_new_entries_out(bench: Any) -> None:
    """Its ticket is the later one, and what it has read is older."""
    bench.use()
    here = runtime.current()
    change = here.host.schedule.change_job_types

    def changed_late(*given: Any) -> Any:
        here.sync.compare(["site1"])
        return change(*given)

    here.host.schedule.change_job_types = changed_late
    here.sync.of("site1").apply(Plan("site1", jobs("ping", "add"), [], [], [], []))
    assert in_force(bench) == ["acme.tasks.add", "acme.tasks.ping"]
