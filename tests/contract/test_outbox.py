"""Jobs that wait for a commit are rows of the transaction, on every database: none is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import warm
from acme import tasks
from acme.models import Account
from contract.standalone import statements
from sqlalchemy import create_engine, event, make_url, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.errors import BrokerUnavailable, QueueOverloaded
from frappe_jobs.ledger.record import FINISHED
from frappe_jobs.outbox import relay
from frappe_jobs.outbox.notes import FIRST_LOOK, FORGOTTEN
from frappe_jobs.standalone.models import Base
from frappe_jobs.standalone.outbox import is_same_database
from frappe_jobs.standalone.outbox_row import OutboxRow
from frappe_jobs.testing import wait_until

APPS = Path(__file__).parents[1] / "apps"
ASYNC_DRIVERS = {"mariadb": "mysql+aiomysql", "sqlite": "sqlite+aiosqlite"}

#: Enqueues a job with what it writes, and dies where it is told to.
DIE = """
import os, signal, sys
from sqlalchemy import event
import frappe_jobs as frappe
from frappe_jobs.context import require_session

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

where, options = sys.argv[1], eval(sys.argv[2])
with frappe.site("site1") as session:
    frappe.new_doc("Account", name="anna", balance=0).insert()
    if where == "after the commit":
        session.after_commit(die)
    if where == "after the message":
        from celery.signals import after_task_publish
        after_task_publish.connect(die)
    if where == "before the send":
        session.after_commit(die)
        frappe.enqueue("acme.tasks.ping", "long", enqueue_after_commit=True)
    frappe.enqueue("acme.tasks.ping", enqueue_after_commit=True, **options)
    if where == "after the rows":
        event.listen(frappe.db, "before_commit", die)
"""


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job may wait in a queue."""
    monkeypatch.setenv("FRAPPE_MAX_QUEUED_JOBS", "1")


@pytest.fixture(autouse=True)
def here(with_redis: None, host: Any) -> Any:
    """The bench of two sites, with a Redis and no worker."""
    return runtime.current()


def rows(site: str = "site1") -> list[Any]:
    with frappe.site(site):
        return [*frappe.db.execute(select(OutboxRow.__table__))]


def enqueue(method: Any = tasks.ping, **options: Any) -> None:
    assert frappe.enqueue(method, enqueue_after_commit=True, **options) is None


def waiting() -> list[str]:
    """The names of the jobs that were sent."""
    return [one.message.name for one in runtime.current().ledger.records("site1")]


def messages() -> int:
    found: int = runtime.current().broker.depth("default")
    return found


def accounts() -> list[str]:
    with frappe.site("site1"):
        return [one["name"] for one in frappe.get_all("Account")]


def grow_old(seconds: float = relay.GRACE + 1, site: str = "site1") -> None:
    """Let that time pass for what is in the outbox and what Redis knows of it."""
    here = runtime.current()
    with frappe.site(site):
        frappe.db.execute(update(OutboxRow).values(written_at=OutboxRow.written_at - seconds))
    server, key = here.ledger.redis, here.ledger._key("outbox")
    for text, score in server.zrange(key, 0, -1, withscores=True):
        made, at, rest = text.split("/", 2)
        server.zrem(key, text)
        server.zadd(key, {f"{made}/{float(at) - seconds:.3f}/{rest}": score - seconds})
    for one in (f"{key}:sites", here.ledger._key("unsent")):
        for member, score in server.zrange(one, 0, -1, withscores=True):
            server.zadd(one, {member: score - seconds})


def look() -> None:
    """As a worker does that was asked to."""
    with frappe.site("site1"):
        runtime.current().relay.look()


@pytest.fixture
def die(forker: warm.Forker) -> Callable[..., None]:
    """Enqueues in a process that is killed."""

    def enqueue_and_die(where: str, **options: Any) -> None:
        environment = os.environ | {
            "SITES_PATH": str(runtime.current().settings.sites_path),
            # The tests' own apps before those that benches of other tests have left there.
            "PYTHONPATH": os.pathsep.join([str(APPS), *sys.path]),
        }
        arguments = [DIE, where, repr(options)]
        done = warm.run(forker.start, arguments, APPS, environment, "", module=warm.CODE)
        assert done.returncode == -signal.SIGKILL, done.stderr

    return enqueue_and_die


# --- in the transaction


def test_it_is_a_row_of_the_transaction_and_settled_once_it_is_sent(here: Any) -> None:
    with frappe.site("site1"):
        enqueue(job_id="mine", deduplicate=True)
        assert rows() == waiting() == []
    [row] = rows()
    message = json.loads(row.message)["header"]
    assert (row.message_id, row.site, row.claim) == (message["id"], "site1", True)
    assert (row.bench_id, waiting()) == (here.settings.bench_id, ["acme.tasks.ping"])
    wait_until(lambda: here.ledger.redis.exists(here.ledger._key("outbox")) == 0, 5)
    grow_old()
    look()
    assert (rows(), messages()) == ([], 1)


def test_transactions_of_a_thread_share_a_note_until_each_is_settled(here: Any) -> None:
    notes, seen = here.ledger._key("outbox"), []

    def look_on(*_: object) -> None:
        here.at_commit.tell_now()
        seen.append(here.ledger.redis.zcard(notes))

    with frappe.site("site1"):
        for _ in range(20):
            enqueue()
            frappe.db.commit()
        assert len({row.note for row in rows()}) < 20
        enqueue()
        event.listen(frappe.db, "before_commit", look_on)
        frappe.db.commit()
        here.at_commit.tell_now()
    assert (seen, here.ledger.redis.zcard(notes)) == ([1], 0)


def test_a_rollback_drops_it_and_so_does_that_of_a_savepoint() -> None:
    with frappe.site("site1"):
        enqueue()
        frappe.db.rollback()
        enqueue(job_name="outer")
        with frappe.db.begin_nested() as savepoint:
            enqueue(job_name="dropped")
            savepoint.rollback()
        with frappe.db.begin_nested():
            enqueue(job_name="inner")
    names = {json.loads(row.message)["header"]["name"] for row in rows()}
    assert names == {*waiting()} == {"outer", "inner"}


def test_all_of_a_transaction_are_one_statement_and_no_commit_is_added(server: Any) -> None:
    with frappe.site("site1"):
        enqueue()  # the table is looked for once
    commits = []
    with frappe.site("site1") as session:
        event.listen(frappe.db.get_bind(), "commit", commits.append)
        with statements(session) as sent:
            frappe.enqueue_many([{"method": tasks.ping, "enqueue_after_commit": True}] * 20)
            enqueue()
            frappe.db.commit()
    assert [one.partition(" (")[0] for one in sent if one != "BEGIN"] == [
        "INSERT INTO frappe_jobs_outbox"
    ]
    assert (len(commits), len(rows()), messages()) == (1, 22, 22)


def test_what_a_flush_enqueues_is_among_them() -> None:
    def flushed(*_: object) -> None:
        enqueue(job_name="of the flush")

    event.listen(Account, "after_insert", flushed)
    try:
        with frappe.site("site1"):
            enqueue()
            frappe.db.add(Account(name="anna", balance=0))
    finally:
        event.remove(Account, "after_insert", flushed)
    assert len(rows()) == len(waiting()) == 2


def test_it_does_not_fail_a_transaction_that_others_have_overtaken() -> None:
    """On SQLite what is read before a write is held against what others have committed."""
    with frappe.site("site1"):
        enqueue()
    with frappe.site("site1"):
        assert accounts() == []
        frappe.get_all("Account")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(add_account).result()
        enqueue()
    assert len(rows()) == 2


def add_account() -> None:
    with frappe.site("site1"):
        frappe.new_doc("Account", name="otto", balance=0).insert()


def test_who_clears_is_in_the_way_of_nobody_who_writes(here: Any) -> None:
    def work(number: int) -> None:
        for one in range(20):
            with frappe.site("site1"):
                frappe.new_doc("Account", name=f"{number}-{one}", balance=0).insert()
                enqueue()

    def clear() -> None:
        with frappe.site("site1"):
            here.relay.look(time.time() + relay.GRACE)

    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(work, number) for number in range(7)]
        while not all(one.done() for one in writing):
            pool.submit(clear).result()
        assert [one.result() for one in writing]
    clear()
    assert (len(accounts()), messages(), rows()) == (140, 140, [])


# --- sessions of a team's own


def test_a_session_that_is_handed_in_decides(server: Any) -> None:
    with frappe.site("site1"):
        engine = frappe.db.get_bind()
    with Session(engine) as mine:
        with frappe.site("site1", session=mine):
            enqueue()
        assert rows() == []
        mine.commit()
    assert len(rows()) == len(waiting()) == 1
    other = create_engine(engine.url, poolclass=NullPool)
    with Session(other) as mine, frappe.site("site1", session=mine):
        enqueue()
        mine.commit()
    assert len(rows()) == len(waiting()) == 2


def test_one_of_another_database_gets_no_rows_and_is_sent_all_the_same() -> None:
    elsewhere = create_engine("sqlite://")
    with Session(elsewhere) as mine, frappe.site("site1", session=mine):
        enqueue()
        mine.commit()
    assert (rows(), len(waiting())) == ([], 1)


def test_an_async_session_is_followed(server: Any) -> None:
    with frappe.site("site1"):
        url = frappe.db.get_bind().url
    if server.kind in ASYNC_DRIVERS:
        url = url.set(drivername=ASYNC_DRIVERS[server.kind])

    async def main() -> None:
        engine = create_async_engine(url, poolclass=NullPool)
        async with AsyncSession(engine) as mine:
            with frappe.site("site1", session=mine):
                enqueue()
            await mine.rollback()
            with frappe.site("site1", session=mine):
                enqueue()
            await mine.commit()
        await engine.dispose()

    asyncio.run(main())
    assert len(rows()) == len(waiting()) == 1


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ("mysql+pymysql://me@localhost/shop", True),
        ("mariadb+aiomysql://you@127.0.0.1:3306/shop", True),
        ("mysql+pymysql:///shop?unix_socket=/run/mysqld.sock", True),
        ("mysql+pymysql://me@localhost:3307/shop", False),
        ("mysql+pymysql://me@localhost/stock", False),
        ("mysql+pymysql://me@far.example/shop", False),
        ("postgresql+psycopg://me@localhost/shop", False),
    ],
)
def test_two_urls_may_lead_to_one_database(other: str, is_same: bool) -> None:
    assert is_same_database(make_url(other), make_url("mysql+pymysql://me@/shop")) is is_same


def test_a_site_that_was_never_migrated_gets_the_table(server: Any) -> None:
    with frappe.site("site2"):
        engine = frappe.db.get_bind()
    Base.metadata.drop_all(engine)
    try:
        with frappe.site("site2"):
            frappe.new_doc("Account", name="anna", balance=0).insert()
            enqueue()
        assert len(rows("site2")) == 1
    finally:
        Base.metadata.create_all(engine)


# --- whoever enqueues dies


@pytest.mark.parametrize(
    ("where", "is_committed"),
    [("after the rows", False), ("after the commit", True), ("after the message", True)],
)
def test_killed_it_is_sent_once_if_it_was_committed(
    where: str, is_committed: bool, die: Callable[..., None]
) -> None:
    with frappe.site("site1"):
        enqueue(queue="long")  # so that the tables are there
    die(where)
    assert accounts() == ["anna"] * is_committed
    assert len(rows()) == 1 + is_committed
    look()  # too early
    assert messages() == (where == "after the message")
    grow_old()
    for _ in range(2):
        look()
    assert messages() == int(is_committed)
    assert (rows(), len(waiting())) == ([], 1 + is_committed)


def test_a_note_of_which_nothing_is_found_stays_until_its_transaction_must_be_gone(
    here: Any, die: Callable[..., None]
) -> None:
    die("after the rows")
    notes = here.ledger._key("outbox")
    grow_old(FORGOTTEN - 10)
    look()
    assert here.ledger.redis.zcard(notes) == 1
    grow_old(20)
    look()
    assert here.ledger.redis.zcard(notes) == 0


def test_whoever_sweeps_has_the_site_looked_at_and_less_often_with_time(
    here: Any, die: Callable[..., None]
) -> None:
    die("after the commit", queue="long")
    now = time.time()
    assert here.relay.have_sites_looked_at(now) == []
    assert here.relay.have_sites_looked_at(now + FIRST_LOOK) == ["site1"]
    assert here.relay.have_sites_looked_at(now + FIRST_LOOK + 1) == []
    [record] = here.ledger.records("site1")
    assert (record.message.method, record.message.queue) == ("frappe_jobs.relay_outbox", "long")
    assert record.message.at_front
    assert here.relay.have_sites_looked_at(now + 2 * FIRST_LOOK + 1) == ["site1"]


def test_of_several_queues_whoever_serves_one_of_them_looks(
    here: Any, die: Callable[..., None]
) -> None:
    die("before the send")
    assert here.relay.have_sites_looked_at(time.time() + FIRST_LOOK) == ["site1"]
    asked = [one.message for one in here.ledger.records("site1")]
    assert {one.queue for one in asked} == {"default", "long"}


def test_what_a_flushed_redis_knows_nothing_of_is_found_by_who_visits_all_sites(
    here: Any, die: Callable[..., None]
) -> None:
    die("after the commit")
    here.ledger.redis.delete(here.ledger._key("outbox"))
    grow_old()
    here.relay.visit_all()
    assert messages() == 0
    assert here.relay.have_sites_looked_at(time.time()) == ["site1"]
    look()
    assert messages() == 2  # and the one that had it looked at
    here.relay.visit_all()
    assert rows() == []


def test_rows_of_jobs_that_have_ended_long_ago_are_cleared_and_nothing_runs_again(
    here: Any,
) -> None:
    with frappe.site("site1"):
        enqueue()
    [message] = [one.message for one in here.ledger.records("site1")]
    here.ledger.start(message, "a worker")
    here.ledger.end(message, FINISHED)
    here.ledger.forget(message)  # as it is after some minutes
    grow_old(relay.CLEARED + 1)
    for _ in range(2):
        here.relay.have_sites_cleared(time.time(), "long")
    assert here.ledger.waiting("long") == 1  # who clears, once, however often that is asked for
    with frappe.site("site1") as session:
        assert here.relay.unsent(session, time.time()).waiting == []
    here.relay.visit_all()
    assert rows() == []
    here.relay.have_sites_cleared(time.time(), "default")
    assert here.ledger.waiting("default") == 0


# --- what becomes of it


def test_a_refused_claim_is_remembered_so_that_it_never_runs(here: Any) -> None:
    with frappe.site("site1"):
        first = frappe.enqueue(tasks.ping, job_id="the id")
        enqueue(job_id="the id", deduplicate=True)
    with frappe.site("site1"):
        assert frappe.get_job("the id").cancel()
    grow_old()
    look()
    assert (rows(), messages()) == ([], 0)
    assert first.get_status() == "cancelled"


def test_what_nobody_told_the_process_of_is_sent_by_one_alone(here: Any) -> None:
    """The relay is quicker than a process that stood still between its commit and its send."""

    def overtaken() -> None:
        grow_old()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(look).result()
        assert messages() == 1

    with frappe.site("site1") as session:
        session.after_commit(overtaken)
        enqueue()
    assert (messages(), len(waiting())) == (1, 1)


def test_cancelled_between_the_commit_and_the_send_it_is_never_sent(
    here: Any, die: Callable[..., None]
) -> None:
    with frappe.site("site1"):
        enqueue(queue="long")
    die("after the commit", track_job=True)
    with frappe.site("site1") as session:
        [row] = frappe.get_all("Background Task", fields=["name"])
        assert frappe.get_doc("Background Task", row["name"]).cancel()
        session.commit()
    grow_old()
    look()
    assert (messages(), rows()) == (0, [])
    with frappe.site("site1"):
        [row] = frappe.get_all("Background Task", fields=["status"])
    assert row["status"] == "Cancelled"


class TestOverload:
    @pytest.fixture(autouse=True)
    def here(self, limited: None, with_redis: None, host: Any) -> Any:
        return runtime.current()

    def test_a_full_queue_waits_and_the_others_do_not(self, here: Any) -> None:
        with frappe.site("site1"):
            frappe.enqueue(tasks.ping)
            with pytest.raises(QueueOverloaded):
                frappe.enqueue(tasks.ping)
            enqueue(queue="default")
            enqueue(queue="long")
        grow_old()
        look()
        assert (messages(), here.broker.depth("long")) == (1, 1)
        with frappe.site("site1"):
            assert here.jobs.cancel_waiting(
                [
                    one.message
                    for one in here.ledger.records("site1")
                    if one.message.queue == "default"
                ],
                "purged",
            )
        look()
        assert (messages(), rows()) == (1, [])


def test_a_broker_that_is_away_raises_nothing_after_a_commit(
    make_sites: Any, monkeypatch: pytest.MonkeyPatch, server: Any, caplog: Any
) -> None:
    monkeypatch.setenv("FRAPPE_REDIS_QUEUE", "redis://127.0.0.1:1")
    make_sites({"site1": server.config("site1")})
    with frappe.site("site1") as session:
        enqueue()
        session.commit()
        with pytest.raises(BrokerUnavailable):
            frappe.enqueue(tasks.ping)
    assert len(rows()) == 1
    assert [one.jobs for one in caplog.records if getattr(one, "action", "") == "jobs_sent_later"]


def test_rows_of_another_site_or_bench_and_very_old_ones_are_never_sent(
    here: Any, die: Callable[..., None]
) -> None:
    die("after the commit")
    for values in ({"site": "site9"}, {"site": "site1", "bench_id": "other"}):
        with frappe.site("site1"):
            frappe.db.execute(update(OutboxRow).values(**values))
        grow_old()
        look()
        here.relay.visit_all()
        assert (messages(), len(rows())) == (0, 1)
    with frappe.site("site1"):
        frappe.db.execute(update(OutboxRow).values(bench_id=here.settings.bench_id))
    grow_old(relay.TOO_OLD)
    look()
    assert (messages(), len(rows())) == (0, 1)


def test_switched_off_it_is_sent_as_before(
    make_sites: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAPPE_JOBS_OUTBOX", "false")
    make_sites({"site1": server.config("site1")})
    with frappe.site("site1"):
        tasks.install()
        enqueue()
    assert len(waiting()) == 1
    with frappe.site("site1"):
        Base.metadata.create_all(frappe.db.get_bind())
    assert rows() == []
