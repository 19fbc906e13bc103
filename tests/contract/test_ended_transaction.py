"""A transaction that its database has ended: nothing is committed "ok" that is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
from acme import tasks
from acme.models import Account
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.errors import TransactionEnded
from frappe_jobs.standalone.background_task import BackgroundTask

TASK = "Background Task"
SOON = 20

IN_CONFLICT = pytest.mark.parametrize("server", ["mariadb"], indirect=True)
ON_SERVERS = pytest.mark.parametrize("server", ["mariadb", "postgres"], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def here(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, server: Any, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """The bench of two sites, with a Redis and no worker."""
    run_id = f"test-{uuid4().hex[:12]}"
    monkeypatch.setenv("FRAPPE_REDIS_QUEUE", redis_url)
    monkeypatch.setenv("FRAPPE_BENCH_ID", run_id)
    request.getfixturevalue("host")
    yield runtime.current()
    with redis.Redis.from_url(redis_url) as it:
        for key in it.scan_iter(f"*{run_id}*", count=10_000):
            it.delete(key)


@pytest.fixture(autouse=True)
def _here(here: Any) -> None:
    """For all of them."""


def see_snapshots(db: Any) -> None:
    """As MariaDB does by itself from 11.6 on; skips where the server is older than the choice."""
    if not db.execute(text("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")).first():
        pytest.skip("This MariaDB has no innodb_snapshot_isolation; MARIADB_URL may name another.")
    db.execute(text("SET SESSION innodb_snapshot_isolation = ON"))  # its next connection's is OFF


def changed_by_another(name: str) -> None:
    """Committed on another connection, and from another thread."""

    def change() -> None:
        with frappe.site("site1"):
            frappe.db.execute(update(Account).filter_by(name=name).values(balance=7))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change).result()


def names() -> list[str]:
    with frappe.site("site1"):
        return [row["name"] for row in frappe.get_all("Account", order_by="name")]


@contextmanager
def conflict_to_come(db: Any) -> Iterator[None]:
    """Inside, a change of the account "hot" ends the transaction, in which "mine" is written."""
    see_snapshots(db)
    frappe.new_doc("Account", name="mine").insert()
    db.execute(select(Account)).all()
    changed_by_another("hot")
    yield


@pytest.fixture
def hot() -> None:
    with frappe.site("site1"):
        frappe.new_doc("Account", name="hot").insert()


def change_hot(db: Any) -> None:
    db.execute(update(Account).filter_by(name="hot").values(balance=1))


def in_a_savepoint(db: Any) -> None:
    with db.begin_nested():
        change_hot(db)


@IN_CONFLICT
def test_a_task_that_is_run_again_loses_no_work_of_its_caller() -> None:
    """The record has changed since the transaction first read: the cancellation beside it."""
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping, track_job=True)
    with pytest.raises(DBAPIError) as caught, frappe.site("site1") as session:
        see_snapshots(session.db)
        frappe.new_doc("Account", name="mine").insert()
        task = frappe.get_doc(TASK, job.task_id)
        task.cancel()
        task.run_again()
    assert runtime.current().host.is_conflict(caught.value)
    assert names() == []
    assert job.get_status() == "cancelled"


@IN_CONFLICT
@pytest.mark.parametrize("how", [change_hot, in_a_savepoint])
def test_who_catches_its_end_can_neither_go_on_nor_commit(
    hot: None, how: Callable[[Any], None]
) -> None:
    host = runtime.current().host
    with frappe.site("site1") as session, conflict_to_come(session.db):
        with pytest.raises(DBAPIError) as caught:
            how(session.db)
        assert host.is_conflict(caught.value)
        for use in (
            lambda: session.db.execute(insert(Account).values(name="half", balance=0)),
            lambda: in_a_savepoint(session.db),
            session.commit,
        ):
            with pytest.raises(TransactionEnded, match="has ended this transaction.*roll it back"):
                use()
        session.rollback()
        frappe.new_doc("Account", name="anew").insert()
    assert names() == ["anew", "hot"]


@IN_CONFLICT
def test_its_end_is_not_committed_by_the_sites_exit(hot: None) -> None:
    called: list[str] = []
    with pytest.raises(TransactionEnded) as caught, frappe.site("site1") as session:
        with conflict_to_come(session.db):
            session.after_commit(lambda: called.append("after a commit that was none"))
            with pytest.raises(DBAPIError):
                in_a_savepoint(session.db)
    assert runtime.current().host.is_conflict(caught.value), "so a job is run again"
    assert (names(), called) == (["hot"], [])


@ON_SERVERS
def test_a_deadlock_that_is_caught_is_not_committed(hot: None) -> None:
    """PostgreSQL answers such a COMMIT with a rollback, and calls that no error."""
    with frappe.site("site1"):
        frappe.new_doc("Account", name="other").insert()
    both_have_one = threading.Barrier(2)

    def work(first: str, second: str) -> str:
        try:
            with frappe.site("site1") as session:
                session.db.execute(insert(Account).values(name=f"of {first}", balance=0))
                session.db.execute(update(Account).filter_by(name=first).values(balance=1))
                both_have_one.wait(SOON)
                try:
                    session.db.execute(update(Account).filter_by(name=second).values(balance=1))
                except DBAPIError:
                    pass
        except TransactionEnded:
            return "ended"
        return first

    with ThreadPoolExecutor(2) as pool:
        found = sorted(pool.map(work, ("hot", "other"), ("other", "hot")))
    assert found[0] == "ended" and names() == ["hot", f"of {found[1]}", "other"]


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_postgres_commits_no_transaction_that_an_error_has_aborted() -> None:
    with pytest.raises(TransactionEnded, match="no_such_table"), frappe.site("site1") as session:
        frappe.new_doc("Account", name="mine").insert()
        with pytest.raises(DBAPIError):
            session.db.execute(text("SELECT * FROM no_such_table"))
    assert names() == []
    with frappe.site("site1") as session:
        frappe.new_doc("Account", name="mine").insert()
        with pytest.raises(DBAPIError), session.db.begin_nested():
            session.db.execute(text("SELECT * FROM no_such_table"))
    assert names() == ["mine"], "a savepoint takes it back"


@IN_CONFLICT
def test_a_session_of_the_callers_own_is_told_as_well() -> None:
    """Its engine is not ours to watch: it is SQLAlchemy that keeps it from a commit then."""
    with frappe.site("site1") as session:
        job = frappe.enqueue(tasks.ping, track_job=True)
        url = session.db.get_bind().url
    job.cancel()
    with Session(create_engine(url, poolclass=NullPool)) as mine:
        see_snapshots(mine)
        with frappe.site("site1", session=mine):
            task = frappe.get_doc(TASK, job.task_id)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(_touch, job.task_id).result()
            with pytest.raises(DBAPIError) as caught:
                task.run_again()
            assert caught.value.orig is not None and caught.value.orig.args[0] == 1020
            with pytest.raises(PendingRollbackError):
                mine.commit()
            mine.rollback()
            assert len(frappe.get_all("Account")) == 0


def _touch(task_id: str) -> None:
    with frappe.site("site1") as session:
        session.db.execute(update(BackgroundTask).filter_by(name=task_id).values(stage="touched"))
