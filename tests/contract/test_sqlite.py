"""SQLite as a site's database: readers beside writers, writers in turn, no update lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from acme.models import Account
from sqlalchemy import create_engine, delete, insert, make_url, select, text, update
from sqlalchemy.pool import NullPool

import frappe_jobs as frappe
from frappe_jobs.errors import TransactionConflict
from frappe_jobs.standalone.database import make_engine
from frappe_jobs.standalone.models import ScheduledJobType
from frappe_jobs.testing import wait_until

SOON = 20


@pytest.fixture
def server(sqlite: Any) -> Any:
    return sqlite


@pytest.fixture(autouse=True)
def host(host: Any) -> Any:
    for name in ("anna", "bert"):
        with frappe.site("site1"):
            frappe.new_doc("Account", name=name).insert()
    return host


def balances() -> dict[str, int]:
    with frappe.site("site1"):
        return {one["name"]: one["balance"] for one in frappe.get_all("Account", fields="*")}


def elsewhere(call: Callable[[], Any]) -> Any:
    """What it gives in another thread, with the site open and committed there."""

    def work() -> Any:
        with frappe.site("site1"):
            return call()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(SOON)


def deposit(name: str, amount: int = 1) -> None:
    frappe.get_doc("Account", name).deposit(amount)


def add(name: str) -> None:
    frappe.new_doc("Account", name=name).insert()


@contextmanager
def somebody_writes() -> Iterator[threading.Event]:
    """Another thread's transaction has written, and commits when told, at the latest at the end."""
    go_on, has_written = threading.Event(), threading.Event()

    def write() -> None:
        deposit("bert")
        has_written.set()
        assert go_on.wait(SOON)

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(elsewhere, write)
        assert has_written.wait(SOON)
        try:
            yield go_on
        finally:
            go_on.set()
            written.result(SOON)


# --- who has read may write


def test_a_session_that_has_read_writes_although_others_have_written_meanwhile() -> None:
    with frappe.site("site1"):
        anna = frappe.get_doc("Account", "anna")
        elsewhere(lambda: deposit("bert", 5))
        anna.deposit(1)
        add("carl")
    assert balances() == {"anna": 1, "bert": 5, "carl": 0}


def test_it_waits_for_whoever_writes_at_that_moment() -> None:
    with somebody_writes() as go_on, frappe.site("site1"):
        anna = frappe.get_doc("Account", "anna")
        threading.Timer(0.3, go_on.set).start()
        anna.deposit(1)
    assert balances() == {"anna": 1, "bert": 1}


def test_readers_wait_for_nobody_and_see_one_moment() -> None:
    with somebody_writes() as go_on, frappe.site("site1"):
        began = time.monotonic()
        assert frappe.get_doc("Account", "bert").balance == 0
        assert time.monotonic() - began < SOON / 4
        go_on.set()
        wait_until(lambda: elsewhere(lambda: frappe.get_doc("Account", "bert").balance) == 1, SOON)
        assert frappe.db.scalar(select(Account.balance).filter_by(name="bert")) == 0


def test_savepoints_hold_when_it_becomes_a_writer_in_one() -> None:
    with frappe.site("site1"):
        frappe.get_all("Account")
        elsewhere(lambda: deposit("bert"))
        with pytest.raises(ZeroDivisionError), frappe.db.begin_nested():
            with frappe.db.begin_nested():
                add("in a released savepoint")
            add("taken back")
            raise ZeroDivisionError
        with frappe.db.begin_nested():
            add("kept")
    assert balances().keys() == {"anna", "bert", "kept"}


def test_a_rollback_ends_its_turn() -> None:
    with frappe.site("site1") as session:
        add("carl")
        session.rollback()
        elsewhere(lambda: add("dora"))
    assert balances().keys() == {"anna", "bert", "dora"}


# --- no update is lost


def test_a_document_that_another_changed_is_not_overwritten(host: Any) -> None:
    with pytest.raises(TransactionConflict, match="Account anna was changed by an") as caught:
        with frappe.site("site1"):
            add("carl")
            frappe.db.commit()
            anna = frappe.get_doc("Account", "anna")
            elsewhere(lambda: deposit("anna", 5))
            anna.deposit(1)
    assert host.is_conflict(caught.value), "a job is run again"
    assert balances() == {"anna": 5, "bert": 0, "carl": 0}


def test_whoever_catches_that_commits_nothing_of_it() -> None:
    with pytest.raises(TransactionConflict), frappe.site("site1"):
        anna = frappe.get_doc("Account", "anna")
        elsewhere(lambda: deposit("anna", 5))
        with pytest.raises(TransactionConflict):
            anna.deposit(1)
    assert balances()["anna"] == 5


def test_one_that_another_deleted_is_a_conflict() -> None:
    with pytest.raises(TransactionConflict), frappe.site("site1"):
        anna = frappe.get_doc("Account", "anna")
        elsewhere(lambda: frappe.get_doc("Account", "anna").delete())
        anna.deposit(1)
    assert balances().keys() == {"bert"}


@pytest.mark.parametrize("change", [
    update(Account).values(balance=1), delete(Account), text("UPDATE account SET balance = 1"),
    text("INSERT OR REPLACE INTO account VALUES ('anna', 1)"),
    text("WITH x AS (SELECT 1) DELETE FROM account"),
])  # fmt: skip
def test_a_statement_that_could_undo_anothers_change_is_a_conflict(change: Any) -> None:
    with frappe.site("site1") as session:
        frappe.get_all("Account")
        elsewhere(lambda: deposit("anna", 5))
        with pytest.raises(TransactionConflict, match="Others have written since this"):
            frappe.db.execute(change)
        session.rollback()
        frappe.db.execute(insert(Account).values(name="carl", balance=0))
    assert balances() == {"anna": 5, "bert": 0, "carl": 0}


def test_a_record_in_which_jobs_note_what_becomes_of_them_is_edited_meanwhile() -> None:
    hourly = {"method": "acme.tasks.ping", "frequency": "Hourly"}
    with frappe.site("site1"):
        name = frappe.new_doc("Scheduled Job Type", **hourly).insert().name

    def note() -> None:
        noted = update(ScheduledJobType).filter_by(name=name).values(last_due=7.0)
        frappe.db.execute(noted)

    def stop() -> None:
        frappe.get_doc("Scheduled Job Type", name, for_update=True).update({"stopped": True}).save()

    with frappe.site("site1"):
        edited = frappe.get_doc("Scheduled Job Type", name)
        elsewhere(note)
        edited.queue = "long"
        edited.save()
    with frappe.site("site1"):
        edited = frappe.get_doc("Scheduled Job Type", name)
        assert (edited.queue, edited.last_due) == ("long", 7.0)
        elsewhere(stop)
        edited.stopped = True  # as another has done by now
        with pytest.raises(TransactionConflict, match="Scheduled Job Type .* was changed"):
            edited.save()
        frappe.db.rollback()


def test_what_it_has_written_itself_is_changed_again_and_again() -> None:
    with frappe.site("site1"):
        anna = frappe.get_doc("Account", "anna")
        elsewhere(lambda: deposit("bert"))
        for _ in range(3):
            anna.deposit(1)
        carl = frappe.new_doc("Account", name="carl").insert()
        carl.deposit(7)
        carl.delete()
    assert balances() == {"anna": 3, "bert": 1}


@pytest.mark.parametrize("asked", ["anna", {"name": "anna"}])
def test_what_is_read_for_update_is_as_it_is_now_and_stays_so(asked: Any) -> None:
    with frappe.site("site1"):
        old = frappe.get_doc("Account", "anna")
        elsewhere(lambda: deposit("anna", 5))
        anna = frappe.get_doc("Account", asked, for_update=True)
        assert (anna is old, anna.balance) == (True, 5)
        anna.deposit(1)
    assert balances()["anna"] == 6


def test_a_site_that_is_opened_for_update_meets_no_conflict() -> None:
    def work() -> None:
        for _ in range(20):
            with frappe.site("site1", for_update=True):
                anna = frappe.get_doc("Account", "anna")
                anna.deposit(1)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result(SOON)
    assert balances()["anna"] == 80


def test_sqlalchemys_own_for_update_means_the_same() -> None:
    with frappe.site("site1"):
        anna = frappe.db.scalars(select(Account).filter_by(name="anna").with_for_update()).one()
        with pytest.raises(TransactionConflict, match="others were writing for"):
            elsewhere(lambda: (be_impatient(), deposit("anna")))
        anna.deposit(1)
    assert balances()["anna"] == 1


# --- waiting


def be_impatient() -> None:
    frappe.db.execute(text("PRAGMA busy_timeout=50"))


def test_waiting_ends_with_a_clear_error_and_the_transaction_goes_on(host: Any) -> None:
    with frappe.site("site1") as session:
        be_impatient()
        frappe.get_all("Account")
        with somebody_writes():
            with pytest.raises(
                TransactionConflict, match=r"site\.db: others were writing for 0.05 s"
            ):
                with frappe.db.begin_nested():
                    add("carl")
            assert len(frappe.get_all("Account")) == 2
        add("dora")
        session.commit()
    assert balances().keys() == {"anna", "bert", "dora"}


def test_a_thread_does_not_wait_for_itself() -> None:
    with frappe.site("site1"):
        add("carl")
        began = time.monotonic()
        with pytest.raises(TransactionConflict, match="another transaction of this thread has wri"):
            with frappe.site("site1"):
                add("dora")
        assert time.monotonic() - began < SOON / 4
    with frappe.site("site1"):
        frappe.get_all("Account")
        with frappe.site("site1"):
            add("dora")
        add("emil")
    assert balances().keys() == {"anna", "bert", "carl", "dora", "emil"}


def test_whoever_waits_is_not_overtaken_by_those_who_write_again_and_again() -> None:
    """SQLite's own waiting looks ever more rarely, and would find it taken each time."""
    turns, is_over = [0], threading.Event()

    def hungry() -> None:
        pause = threading.Event()
        while not is_over.is_set():
            with frappe.site("site1"):
                frappe.db.execute(update(Account).filter_by(name="bert").values(balance=1))
                turns[0] += 1
                pause.wait(0.02)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(hungry) for _ in range(2)]
        try:
            wait_until(lambda: turns[0] > 4, SOON)
            for number in range(5):
                before = turns[0]
                with frappe.site("site1"):
                    add(f"{number}")
                assert turns[0] - before <= 8
        finally:
            is_over.set()
        for one in both:
            one.result(SOON)


def test_rows_that_are_not_fetched_yet_are_said_at_once() -> None:
    with frappe.site("site1"):
        began = time.monotonic()
        rows = frappe.db.connection().execution_options(stream_results=True)
        found = iter(rows.execute(select(Account.name)))
        next(found)
        elsewhere(lambda: add("carl"))
        with pytest.raises(TransactionConflict, match="fetch all of them before the first|others"):
            add("dora")
        assert time.monotonic() - began < SOON
        assert [name for (name,) in found] == ["bert"]


def test_a_database_that_is_no_file_has_no_line(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with make_engine(make_url("sqlite://")).begin() as one:
        one.execute(text("CREATE TABLE x (y)"))
        with make_engine(make_url("sqlite://")).begin() as other:
            other.execute(text("CREATE TABLE x (y)"))
    assert [*(tmp_path / "here").iterdir()] == []


def test_another_programs_write_lock_is_waited_for() -> None:
    with frappe.site("site1") as session:
        url = session.db.get_bind().url
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        with frappe.site("site1"):
            be_impatient()
            with pytest.raises(TransactionConflict, match="others were writing"):
                add("carl")
            frappe.db.rollback()
