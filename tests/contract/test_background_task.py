"""The records of tracked jobs, written in a transaction and beside it, on every database."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from acme import tasks
from acme.models import Account
from sqlalchemy import inspect, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import NullPool

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.background_task.tracking import PACE, Tracking
from frappe_jobs.errors import (
    ArgumentError,
    BadMessage,
    JobError,
    JobNotFound,
    MethodNotFound,
    PermissionError,
    RecordNotWritten,
    UnknownQueue,
)
from frappe_jobs.ledger.record import FAILED
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.standalone.models import Base
from frappe_jobs.standalone.records import TRIES, make_tables
from frappe_jobs.testing import slowness, wait_until

HOUR = 3600
TASK = "Background Task"
#: SPEC's, as Frappe 16 names them.
FIELDS = {
    "task_id", "job_id", "task_name", "user", "method", "arguments", "queue", "status", "progress",
    "stage", "result", "exception", "started_at", "ended_at", "ref_doctype", "ref_docname",
}  # fmt: skip
ASYNC_DRIVERS = {"mariadb": "mysql+aiomysql", "sqlite": "sqlite+aiosqlite"}

#: Makes the tables in each database that it is told, and says what came of it.
MAKE_TABLES = """
import sys
from sqlalchemy.orm import Session
from frappe_jobs.standalone.database import make_engine
from frappe_jobs.standalone.records import make_tables
from sqlalchemy import make_url

engine = None
for line in sys.stdin:
    url = make_url(line.strip())
    if engine is None or engine.url != url:
        engine = make_engine(url)
        print("ready", flush=True)
        continue
    try:
        with Session(engine) as session:
            make_tables(session)
        print("made", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def here(with_redis: None, host: Any) -> Any:
    """The bench of two sites, with a Redis and no worker."""
    return runtime.current()


@pytest.fixture
def never_migrated(here: Any, server: Any) -> Iterator[Any]:
    """A site without the tables; its engine."""
    with frappe.site("site2") as session:
        engine = session.db.get_bind()
    Base.metadata.drop_all(engine)
    yield engine
    Base.metadata.create_all(engine)


@pytest.fixture
def impatient(here: Any) -> Tracking:
    """What waits for no lock."""
    return Tracking(here.host, here.ledger, patience=0)


def tracked(method: Any = tasks.ping, *, user: str = "grete", **options: Any) -> Any:
    """A job of site1 that is enqueued, tracked and committed."""
    with frappe.site("site1", user=user):
        return frappe.enqueue(method, track_job=True, **options)


def stored(job: Any = None, site: str = "site1") -> dict[str, Any]:
    """What the database says of it, or of the only one: all fields."""
    with frappe.site(site):
        [row] = frappe.get_all(TASK, {"task_id": job.task_id} if job else {}, ["*"])
        return row


def count(doctype: str = TASK, site: str = "site1") -> int:
    with frappe.site(site):
        return len(frappe.get_all(doctype))


def engine_of(site: str) -> Any:
    with frappe.site(site) as session:
        return session.db.get_bind()


@contextmanager
def running(job: Any) -> Iterator[tuple[Any, Any]]:
    """The message and the session of a job that a worker has begun with."""
    here = runtime.current()
    message = here.ledger.read(job.message_id).message
    here.ledger.start(message, "a worker")
    with frappe.site("site1", user=message.user) as session:
        here.tracking.begin(message, session)
        yield message, session
        here.tracking.leave(message)


def end_in_the_ledger(job: Any, reason: str = "killed") -> None:
    """As a worker's parent does, which writes no record."""
    ledger = runtime.current().ledger
    ledger.end(ledger.read(job.message_id).message, FAILED, {"reason": reason})


# --- enqueue


def test_the_record_has_the_fields_that_frappe_gives_it() -> None:
    job = tracked(tasks.add, x=1, y=2, queue="short", job_id="sum", job_name="Add up")
    row = stored(job)
    assert datetime.now(timezone.utc) - row["creation"] < timedelta(seconds=30)
    assert {name: row[name] for name in FIELDS} == {
        "task_id": job.message_id, "job_id": "sum", "task_name": "Add up", "user": "grete",
        "method": "acme.tasks.add", "arguments": '{"x":1,"y":2}', "queue": "short",
        "status": "Queued", "progress": 0.0, "stage": None, "result": None, "exception": None,
        "started_at": None, "ended_at": None, "ref_doctype": None, "ref_docname": None,
    }  # fmt: skip
    assert row["name"] == row["task_id"] == job.task_id


def test_it_goes_with_the_commit_and_the_handle_says_so_before() -> None:
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping, track_job=True, job_id="mine")
        assert (job.id, job.status) == ("mine", "queued")
        for ask in (job.refresh, job.get_status, job.wait, job.cancel, job.delete, job.requeue):
            with pytest.raises(JobNotFound, match="sent when the transaction commits in which"):
                ask()
        assert frappe.get_job("mine") is None
        frappe.db.commit()
        assert (job.get_status(), job.unsent) == ("queued", None)
        assert frappe.get_job("mine").task_id == job.task_id
    assert stored(job)["status"] == "Queued"


def test_a_rollback_drops_record_and_message() -> None:
    with pytest.raises(ZeroDivisionError), frappe.site("site1"):
        job = frappe.enqueue(tasks.ping, track_job=True)
        assert len(frappe.get_all(TASK)) == 1  # written, and taken back all the same
        raise ZeroDivisionError
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping, track_job=True)
        frappe.db.rollback()
        with frappe.db.begin_nested() as savepoint:
            frappe.enqueue(tasks.ping, track_job=True)
            savepoint.rollback()
    assert count() == 0
    assert runtime.current().ledger.records("site1") == []
    with pytest.raises(JobNotFound, match="never if that rolls back"):
        job.wait()


def test_after_commit_returns_nothing_and_sends_all_the_same() -> None:
    with frappe.site("site1"):
        assert frappe.enqueue(tasks.ping, track_job=True, enqueue_after_commit=True) is None
    assert stored()["status"] == "Queued"
    assert len(runtime.current().ledger.records("site1")) == 1


def test_now_keeps_no_record() -> None:
    with frappe.site("site1"):
        assert frappe.enqueue(tasks.ping, now=True, track_job=True) == "pong"
        assert frappe.enqueue(tasks.ping, is_async=False, track_job=True) == "pong"
        with pytest.raises(ArgumentError, match="is a Celery task"):
            frappe.enqueue(tasks.celery_add, track_job=True, x=1, y=2)
    assert count() == 0


def test_many_are_written_and_sent_with_the_commit_and_the_others_at_once() -> None:
    item: dict[str, Any] = {"method": tasks.ping}
    ledger = runtime.current().ledger
    with frappe.site("site1"):
        jobs = frappe.enqueue_many(
            [item | {"track_job": True, "job_id": "a"}, item | {"job_id": "b"},
             item | {"enqueue_after_commit": True},
             item | {"track_job": True, "enqueue_after_commit": True}]
        )  # fmt: skip
        assert [job and job.id for job in jobs] == ["a", "b", None, None]
        assert [one.message.job_id for one in ledger.records("site1")] == ["b"]
    assert (count(), len(ledger.records("site1"))) == (2, 4)
    with pytest.raises(ArgumentError, match="Item 1: .*Nothing was sent"), frappe.site("site1"):
        frappe.enqueue_many([item | {"track_job": True}, item | {"queue": "nope"}])
    assert count() == 2


def test_a_documents_method_says_which_document() -> None:
    with frappe.site("site1"):
        frappe.new_doc("Account", name="cash").insert()
        by_name = frappe.enqueue_doc("Account", "cash", "deposit", track_job=True)
        bound = frappe.enqueue(frappe.get_doc("Account", "cash").deposit, track_job=True)
    for job in (by_name, bound):
        row = stored(job)
        assert (row["ref_doctype"], row["ref_docname"]) == ("Account", "cash")
        assert row["task_name"] == "Account.deposit"


def test_an_id_that_is_taken_at_the_call_leaves_no_record() -> None:
    first = tracked(job_id="once", deduplicate=True)
    assert tracked(job_id="once", deduplicate=True) is None
    assert stored()["task_id"] == first.task_id


def test_an_id_that_is_taken_until_the_commit_sends_nothing() -> None:
    with frappe.site("site1"):
        late = frappe.enqueue(tasks.ping, track_job=True, job_id="once", deduplicate=True)
        first = frappe.enqueue(tasks.ping, job_id="once")
    row = stored(late)
    assert row["status"] == "Cancelled" and "a job of its id waits or runs" in row["exception"]
    with pytest.raises(JobNotFound, match="a job of its id waits or runs"):
        late.wait()
    assert [one.message.id for one in runtime.current().ledger.records("site1")] == [
        first.message_id
    ]


def test_what_no_record_can_hold_is_refused_at_the_call() -> None:
    with pytest.raises(ArgumentError, match="cannot be tracked"):
        tracked(job_id="x" * 256)
    with pytest.raises(ArgumentError, match="cannot be tracked.*'user'"):
        tracked(user="u" * 256)
    assert count() == 0
    assert runtime.current().ledger.records("site1") == []


def test_what_people_read_is_cut_where_it_is_too_long() -> None:
    job = tracked(job_name="Rosé 🍷 " * 100 + "\0\ud800")
    assert stored(job)["task_name"] == ("Rosé 🍷 " * 100)[:255]
    with running(job) as (message, _):
        tracking = runtime.current().tracking
        tracking.note_progress(message, float("nan"), "étage \0 \ud800" * 50, "D" * 300, "n" * 300)
        assert tracking.ended(message, "Failed", exception="🍷\0\ud800" * 500_000)
    row = stored(job)
    assert row["stage"] == (r"étage \x00 \ud800" * 50)[:255]
    assert (row["progress"], len(row["ref_doctype"]), len(row["ref_docname"])) == (0.0, 140, 255)
    assert row["exception"].endswith(r"🍷\x00\ud800🍷\x00\ud800")
    assert len(row["exception"]) <= 2_000_000


# --- sessions of one's own


def test_a_session_that_is_handed_in_decides() -> None:
    with Session(engine_of("site1")) as mine:
        with frappe.site("site1", session=mine):
            job = frappe.enqueue(tasks.ping, track_job=True)
        assert count() == 0
        mine.commit()
    assert (stored(job)["status"], job.get_status()) == ("Queued", "queued")


def test_a_session_without_a_database_for_it_is_refused_at_the_call() -> None:
    class Other(DeclarativeBase):
        """A team's tables in a database of their own."""

    with Session(binds={Other: engine_of("site1")}) as mine, frappe.site("site1", session=mine):
        with pytest.raises(ArgumentError, match="bind it to the site's"):
            frappe.enqueue(tasks.ping, track_job=True)


def test_an_async_session_is_followed(server: Any) -> None:
    url = engine_of("site1").url
    if server.kind in ASYNC_DRIVERS:
        url = url.set(drivername=ASYNC_DRIVERS[server.kind])

    async def main() -> Any:
        engine = create_async_engine(url, poolclass=NullPool)
        async with AsyncSession(engine) as mine:
            with frappe.site("site1", session=mine):
                frappe.enqueue(tasks.ping, track_job=True)
            await mine.rollback()
            with frappe.site("site1", session=mine):
                job = frappe.enqueue(tasks.ping, track_job=True)
            await mine.commit()
        await engine.dispose()
        return job

    job = asyncio.run(main())
    assert (stored()["task_id"], job.get_status()) == (job.task_id, "queued")


# --- the tables


@pytest.mark.parametrize("look_first", [False, True])
def test_a_site_that_was_never_migrated_gets_them_when_they_are_first_needed(
    never_migrated: Any, look_first: bool
) -> None:
    with frappe.site("site2"):
        if look_first:
            assert frappe.get_recent_tasks() == frappe.get_all("Scheduled Job Type") == []
        job = frappe.enqueue(tasks.ping, track_job=True)
    assert stored(job, "site2")["status"] == "Queued"


def test_making_them_commits_nothing_of_the_callers_work(never_migrated: Any) -> None:
    with frappe.site("site2"):
        frappe.new_doc("Account", name="rolled back").insert()
        frappe.enqueue(tasks.ping, track_job=True)
        frappe.db.rollback()
        frappe.new_doc("Account", name="kept").insert()
        job = frappe.enqueue(tasks.ping, track_job=True)
    with frappe.site("site2"):
        assert frappe.get_all("Account") == [{"name": "kept"}]
    assert stored(None, "site2")["task_id"] == job.task_id


@pytest.fixture(scope="module")
def makers() -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", MAKE_TABLES]
    makers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(3)
    ]
    yield makers
    for maker in makers:
        maker.communicate(timeout=10)


def test_processes_that_make_them_at_once_all_succeed(
    never_migrated: Any, makers: list[subprocess.Popen[str]]
) -> None:
    def told() -> list[str]:
        for maker in makers:
            assert maker.stdin
            maker.stdin.write(never_migrated.url.render_as_string(hide_password=False) + "\n")
        return [maker.stdout.readline() for maker in makers if maker.stdout]

    assert told() == ["ready\n"] * 3
    for _ in range(5):
        Base.metadata.drop_all(never_migrated)
        assert told() == ["made\n"] * 3
        assert {*Base.metadata.tables} <= {*inspect(never_migrated).get_table_names()}


def test_threads_that_make_them_at_once_all_succeed(never_migrated: Any) -> None:
    def make(_: int) -> bool:
        with Session(never_migrated) as session:
            return make_tables(session)

    with ThreadPoolExecutor(TRIES) as threads:
        for _ in range(5):
            Base.metadata.drop_all(never_migrated)
            assert all(threads.map(make, range(TRIES)))


def test_what_an_earlier_version_has_kept_stays_and_gets_todays_columns(server: Any) -> None:
    old = tracked()
    with frappe.site("site1") as session:
        engine = session.db.get_bind()
    with engine.begin() as connection:
        for name in ("show_progress_bar", "allow_user_retry", "on_success_callback"):
            connection.exec_driver_sql(
                f"ALTER TABLE frappe_jobs_background_task DROP COLUMN {name}"
            )
    with Session(engine) as session:
        assert make_tables(session)
    row = stored(old)
    assert (row["show_progress_bar"], row["allow_user_retry"]) == (1, 1)
    assert (row["on_success_callback"], row["status"]) == (None, "Queued")


# --- in the job's process


def test_it_runs_and_is_completed_in_the_jobs_own_transaction() -> None:
    job = tracked()
    tracking = runtime.current().tracking
    with running(job) as (message, session):
        row = stored(job)
        assert row["status"] == "Running" and row["started_at"] is not None
        tasks.install()
        frappe.new_doc("Account", name="cash").insert()
        assert tracking.complete(message, session, '"pong"')
        session.rollback()
        assert (stored(job)["status"], count("Account")) == ("Running", 0)
        frappe.new_doc("Account", name="cash").insert()
        assert tracking.complete(message, session, '"pong"')
        session.commit()
    row = stored(job)
    assert (row["status"], row["result"], row["progress"]) == ("Completed", '"pong"', 100.0)
    assert row["started_at"] <= row["ended_at"]


def test_a_record_that_was_lost_is_written_anew_when_the_job_begins() -> None:
    job = tracked(tasks.add, x=1)
    with frappe.site("site1"):
        frappe.db.delete(frappe.db.get(BackgroundTask, job.task_id))
    with running(job):
        row = stored(job)
    assert (row["status"], row["arguments"], row["user"]) == ("Running", '{"x":1}', "grete")


def test_progress_is_written_beside_the_transaction_where_that_cannot_hinder_it(
    server: Any,
) -> None:
    job = tracked()
    tracking = runtime.current().tracking
    with running(job) as (message, session):
        tracking.note_progress(message, 10, "first", None, None)
        assert (stored(job)["progress"], stored(job)["stage"]) == (10.0, "first")
        run = tracking._runs[message.id]
        run.noted_at += HOUR  # what comes now comes too soon, however slow the machine is
        tracking.note_progress(message, 20, None, None, None)
        assert stored(job)["progress"] == 10.0
        session.db.execute(select(Account)).all()
        run.noted_at -= HOUR + PACE
        tracking.note_progress(message, 30, None, "Account", "cash")
        assert stored(job)["progress"] == (30.0 if server.kind == "postgres" else 10.0)
        session.db.add(Account(name="cash"))  # and its own work is not in the way of anything
        assert tracking.complete(message, session, None)
        session.commit()
    row = stored(job)
    assert (row["stage"], row["ref_doctype"], row["ref_docname"]) == ("first", "Account", "cash")
    assert count("Account") == 1


def test_progress_waits_for_nobody() -> None:
    job = tracked()
    tracking = runtime.current().tracking
    with running(job) as (message, _), Session(engine_of("site1")) as other:
        other.execute(update(BackgroundTask).values(stage="locked"))
        began = time.monotonic()
        tracking.note_progress(message, 10, "first", None, None)
        assert time.monotonic() - began < slowness()
        other.rollback()
        assert stored(job)["stage"] is None
        tracking.ended(message, "Failed", exception="why")
    assert (stored(job)["progress"], stored(job)["stage"]) == (10.0, "first")


def test_a_job_that_only_read_is_completed_whatever_others_wrote_meanwhile() -> None:
    """SQLite cannot write in a transaction that began before somebody else's write."""
    job = tracked()
    tracking = runtime.current().tracking
    with running(job) as (message, session):
        session.db.execute(select(Account)).all()
        with Session(engine_of("site1")) as other:
            other.add(Account(name="somebody else's"))
            other.commit()
        is_written = tracking.complete(message, session, "1")
        session.commit()
        assert is_written or tracking.ended(message, "Completed", result="1")
    assert (stored(job)["status"], stored(job)["result"]) == ("Completed", "1")


def test_a_record_that_cannot_be_written_keeps_no_job_from_its_work(server: Any) -> None:
    job = tracked()
    tracking = runtime.current().tracking
    with running(job) as (message, session):
        session.db.add(Account(name="cash"))
        session.db.flush()
        Base.metadata.tables[BackgroundTask.__tablename__].drop(session.db.connection())
        assert not tracking.complete(message, session, "1")
        session.commit()
        assert tracking.ended(message, "Completed", result="1")  # there is nothing to be written
    assert count("Account") == 1
    Base.metadata.create_all(engine_of("site1"))


def test_a_record_that_is_locked_at_the_end_fails_no_job(impatient: Tracking) -> None:
    job = tracked()
    tracking = impatient
    with running(job) as (message, session), Session(engine_of("site1")) as other:
        other.execute(update(BackgroundTask).values(stage="locked"))
        began = time.monotonic()
        assert not tracking.complete(message, session, None)
        assert time.monotonic() - began < slowness()
        session.commit()
        other.rollback()
        assert tracking.ended(message, "Completed")
    assert stored(job)["status"] == "Completed"


def test_an_end_is_not_undone_by_who_began_in_that_moment() -> None:
    """A job is cancelled after a worker has taken it, and before that is in the record."""
    job = tracked()
    here = runtime.current()
    message = here.ledger.read(job.message_id).message
    here.ledger.start(message, "a worker")
    here.ledger.cancel([message], "cancelled while it ran")
    here.tracking.settle("site1")
    with frappe.site("site1") as session:
        here.tracking.begin(message, session)
    assert stored(job)["status"] == "Cancelled"


# --- ends that others write


def test_an_end_is_written_once_and_no_more_than_that() -> None:
    job, other = tracked(), tracked()
    here = runtime.current()
    with running(job):
        here.ledger.note(here.ledger.read(job.message_id).message, {"progress": "40.0"})
    end_in_the_ledger(job, "its process died 3 times")
    here.tracking.settle("site2")
    assert stored(job)["status"] == "Running"
    here.tracking.settle("site1")
    row = stored(job)
    assert (row["status"], row["exception"]) == ("Failed", "its process died 3 times")
    assert (row["progress"], stored(other)["status"]) == (40.0, "Queued")
    assert here.ledger.redis.exists(here.ledger._key("unwritten", "site1")) == 0


def test_what_is_committed_as_completed_stays_so() -> None:
    job = tracked()
    here = runtime.current()
    with running(job) as (message, session):
        here.tracking.complete(message, session, None)
    end_in_the_ledger(job)
    here.tracking.settle("site1")
    assert stored(job)["status"] == "Completed"


def test_an_end_of_an_older_message_means_nothing() -> None:
    job = tracked()
    end_in_the_ledger(job)
    again = job.requeue()
    assert (again.task_id, stored(job)["message_id"]) == (job.task_id, again.message_id)
    runtime.current().tracking.settle("site1")
    assert stored(job)["status"] == "Queued"


def test_an_end_that_cannot_be_written_now_waits(impatient: Tracking) -> None:
    job = tracked()
    message = runtime.current().ledger.read(job.message_id).message
    with Session(engine_of("site1")) as other:
        other.execute(update(BackgroundTask).values(stage="locked"))
        end_in_the_ledger(job)
        impatient.settle_if_possible([message])
        with pytest.raises(RecordNotWritten, match="could not be written just now"):
            impatient.settle("site1")
    assert stored(job)["status"] == "Queued"
    impatient.settle("site1")
    assert stored(job)["status"] == "Failed"


def test_in_an_open_transaction_a_cancellation_blocks_nobody(server: Any) -> None:
    job = tracked()
    with frappe.site("site1"):
        frappe.new_doc("Account", name="cash").insert()  # on SQLite nobody else can write now
        began = time.monotonic()
        assert frappe.get_doc(TASK, job.task_id).cancel()
        assert time.monotonic() - began < slowness()
    assert (stored(job)["status"], count("Account")) == ("Cancelled", 1)
    here = runtime.current()
    assert here.ledger.redis.exists(here.ledger._key("unwritten", "site1")) == 0


def test_a_site_that_was_given_another_database_is_not_tried_for_ever(server: Any) -> None:
    job = tracked()
    here = runtime.current()
    end_in_the_ledger(job)
    Base.metadata.tables[BackgroundTask.__tablename__].drop(engine_of("site1"))
    here.tracking.settle("site1")
    assert here.ledger.redis.exists(here.ledger._key("unwritten", "site1")) == 0
    Base.metadata.create_all(engine_of("site1"))


# --- its owner


def test_its_owner_cancels_it_and_runs_it_again() -> None:
    job = tracked(tasks.add, x=1, job_id="sum")
    with frappe.site("site1", user="grete"):
        task = frappe.get_doc(TASK, job.task_id)
        assert task.cancel()
        assert (task.status, job.get_status()) == ("Cancelled", "cancelled")
        assert not task.cancel()
    with frappe.site("site1", user="grete"):
        task = frappe.get_doc(TASK, job.task_id)
        assert task.exception == "cancelled" and task.ended_at is not None
        again = task.run_again()
        assert (task.status, task.ended_at, task.exception) == ("Queued", None, None)
        with pytest.raises(JobNotFound, match="when the transaction commits"):
            again.get_status()
    assert (again.get_status(), again.id, again.task_id) == ("queued", "sum", job.task_id)
    assert again.message_id != job.message_id and again.kwargs == {"x": 1}
    with pytest.raises(JobNotFound):
        job.refresh()
    with frappe.site("site1"), pytest.raises(JobError, match="only one that failed or was canc"):
        frappe.get_doc(TASK, job.task_id).run_again()


def test_nobody_else_may_but_administrator() -> None:
    job = tracked()
    with frappe.site("site1", user="otto"):
        task = frappe.get_doc(TASK, job.task_id)
        for forbidden in (task.cancel, task.run_again):
            with pytest.raises(PermissionError, match="is grete's: otto may not"):
                forbidden()
    assert (stored(job)["status"], job.get_status()) == ("Queued", "queued")
    with frappe.site("site1"):
        assert frappe.get_doc(TASK, job.task_id).cancel()
    with frappe.site("site1"):  # a transaction of its own may see the row as it was before
        again = frappe.get_doc(TASK, job.task_id).run_again()
    assert again.user == "grete"


def test_cancelled_in_the_transaction_that_enqueued_it_it_is_never_sent() -> None:
    with frappe.site("site1", user="grete"):
        job = frappe.enqueue(tasks.ping, track_job=True)
        frappe.db.flush()
        assert frappe.get_doc(TASK, job.task_id).cancel()
    assert stored(job)["status"] == "Cancelled"
    assert runtime.current().ledger.records("site1") == []
    with pytest.raises(JobNotFound, match="it was cancelled before"):
        job.wait()


def test_a_run_again_that_is_rolled_back_changes_nothing() -> None:
    job = tracked()
    job.cancel()
    with frappe.site("site1"):
        frappe.get_doc(TASK, job.task_id).run_again()
        frappe.db.rollback()
    assert (stored(job)["status"], job.get_status()) == ("Cancelled", "cancelled")


def test_of_two_who_run_it_again_one_does(server: Any) -> None:
    job = tracked()
    job.cancel()

    def run_again(_: int) -> bool:
        try:
            with frappe.site("site1"):
                frappe.get_doc(TASK, job.task_id).run_again()
        except (JobError, RecordNotWritten):
            return False
        except OperationalError as error:
            assert runtime.current().host.is_conflict(error)
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(run_again, range(4))) == 1
    assert len(runtime.current().ledger.records("site1")) == 1


def test_one_that_is_completed_or_still_due_is_not_run_again() -> None:
    done, due = tracked(), tracked()
    here = runtime.current()
    with running(done) as (message, session):
        here.tracking.complete(message, session, None)
    with running(due) as (message, _):
        here.tracking.ended(message, "Failed", exception="killed before the ledger knew")
    for job, status in ((done, "Running"), (due, "Running")):
        with frappe.site("site1"), pytest.raises(JobError, match=f"is {status}; only one that"):
            frappe.get_doc(TASK, job.task_id).run_again()


def lose(job: Any) -> Any:
    """Have Redis lose the record of a job that waits."""
    ledger = runtime.current().ledger
    message = ledger.read(job.message_id).message
    ledger.redis.delete(ledger._key("record", message.id))
    return message


def test_a_job_that_redis_has_lost_is_cancelled_and_run_again() -> None:
    job = tracked(tasks.add, x=1)
    ledger = runtime.current().ledger
    message = lose(job)
    with frappe.site("site1"):
        task = frappe.get_doc(TASK, job.task_id)
        assert task.cancel() and task.status == "Cancelled"
    assert ledger.buried([message]) == {message.id}  # should it turn up
    with frappe.site("site1"):
        assert frappe.get_doc(TASK, job.task_id).run_again().kwargs == {"x": 1}


def test_a_database_that_was_copied_to_another_site_runs_its_jobs_there() -> None:
    job = tracked()
    job.cancel()
    row = stored(job)
    with frappe.site("site2"):
        frappe.db.add(BackgroundTask(**row))
    with frappe.site("site2"):
        assert frappe.get_doc(TASK, job.task_id).run_again().site == "site2"
    assert job.get_status() == "cancelled"  # it is still known


def test_a_copy_of_a_record_on_another_site_has_no_power_over_the_job() -> None:
    job = tracked()
    here = runtime.current()
    row = stored(job)
    with running(job), frappe.site("site2"):
        frappe.db.add(BackgroundTask(**row))
        frappe.db.commit()
        task = frappe.get_doc(TASK, job.task_id)
        assert task.status == "Queued"  # what the original does is not its own
        assert frappe.get_recent_tasks()[0]["status"] == "Queued"
        assert task.cancel()
    assert (job.get_status(), stored(job)["status"]) == ("started", "Running")
    assert stored(job, "site2")["status"] == "Cancelled"
    assert here.ledger.find("site2", job.id) is None


def test_one_that_could_not_be_enqueued_any_more_is_not_run_again() -> None:
    job = tracked()
    job.cancel()
    for changed, error, text in (
        ({"queue": "gone"}, UnknownQueue, "'gone' is not configured"),
        ({"method": "acme.tasks.gone"}, MethodNotFound, "has no 'gone'"),
        ({"version": 99}, BadMessage, "version is 99"),
    ):
        with frappe.site("site1"):
            task = frappe.get_doc(TASK, job.task_id)
            task.header = json.dumps(json.loads(task.header) | changed)
            with pytest.raises(error, match=text):
                task.run_again()
            frappe.db.rollback()
    assert stored(job)["status"] == "Cancelled"


# --- looking


def test_a_document_says_what_its_job_is_doing_now_and_saving_it_writes_nothing_of_that() -> None:
    job = tracked()
    here = runtime.current()
    message = here.ledger.read(job.message_id).message
    here.ledger.start(message, "a worker")
    here.ledger.note(message, {"progress": "55.0", "stage": "live"})
    with frappe.site("site1"):
        task = frappe.get_doc(TASK, job.task_id)
        assert (task.status, task.progress, task.stage) == ("Running", 55.0, "live")
        assert task.started_at is not None
        task.save()
    assert (stored(job)["status"], stored(job)["progress"]) == ("Queued", 0.0)


def test_one_sees_ones_own_newest_first_and_administrator_all() -> None:
    jobs = [tracked(user=user) for user in ("grete", "otto", "grete")]
    here = runtime.current()
    here.ledger.note(here.ledger.read(jobs[0].message_id).message, {"progress": "5.0"})
    with frappe.site("site1", user="grete"):
        rows = frappe.get_recent_tasks()
        assert [row["task_id"] for row in rows] == [jobs[2].task_id, jobs[0].task_id]
        assert [row["progress"] for row in rows] == [0.0, 5.0]
        assert len(frappe.get_recent_tasks(limit=1)) == 1
        for wrong in (-1, None, "5", True):
            with pytest.raises(ArgumentError, match="whole number, 0 or more"):
                frappe.get_recent_tasks(limit=wrong)
        assert rows[0].keys() >= FIELDS - {"arguments", "result", "exception"}
    with frappe.site("site1"):
        assert [row["user"] for row in frappe.get_recent_tasks()] == ["grete", "otto", "grete"]
    with frappe.site("site1", user="nobody"):
        assert frappe.get_recent_tasks() == []


def test_a_record_is_made_by_enqueue_alone_and_deleted_once_it_has_ended() -> None:
    job = tracked()
    with frappe.site("site1"):
        with pytest.raises(JobError, match="made by enqueue"):
            frappe.new_doc(TASK, task_id="x").insert()
        with pytest.raises(JobError, match="is Queued: cancel it first"):
            frappe.get_doc(TASK, job.task_id).delete()
    job.cancel()
    with frappe.site("site1"):
        frappe.get_doc(TASK, job.task_id).delete()
    assert count() == 0


# --- clearing


def test_old_ends_are_cleared_and_nothing_else() -> None:
    old, new, waiting = tracked(), tracked(), tracked()
    for job in (old, new):
        job.cancel()
    now = datetime.now(timezone.utc)
    with frappe.site("site1") as session:
        for job in (old, waiting):
            record = session.db.get_one(BackgroundTask, job.task_id)
            record.creation = now - timedelta(days=30)
        session.db.get_one(BackgroundTask, old.task_id).ended_at = now - timedelta(days=8)
    host = runtime.current().host
    assert host.tasks.clear("site1", now - timedelta(days=9)) == 0
    assert host.tasks.clear("site1", now - timedelta(days=7)) == 1
    assert host.tasks.clear("site2", now) == 0
    with frappe.site("site1"):
        left = {row["name"] for row in frappe.get_all(TASK)}
    assert left == {new.task_id, waiting.task_id}


def test_clearing_a_site_without_the_tables_makes_none(never_migrated: Any) -> None:
    assert runtime.current().task_upkeep.clear("site2") == 0
    assert BackgroundTask.__tablename__ not in inspect(never_migrated).get_table_names()


def test_jobs_that_nobody_knows_of_are_given_up_and_cleared_in_their_time() -> None:
    lost, waiting, young = tracked(), tracked(), tracked()
    here = runtime.current()
    for job in (lost, young):
        lose(job)
    long_ago = datetime.now(timezone.utc) - timedelta(days=2)
    with frappe.site("site1") as session:
        for job in (lost, waiting):
            session.db.get_one(BackgroundTask, job.task_id).creation = long_ago
    assert here.task_upkeep.clear("site1") == 0
    assert [stored(job)["status"] for job in (lost, waiting, young)] == [
        "Failed", "Queued", "Queued",
    ]  # fmt: skip
    assert "nothing is known of its job any more" in stored(lost)["exception"]
    with frappe.site("site1") as session:
        session.db.get_one(BackgroundTask, lost.task_id).ended_at -= timedelta(days=8)
    assert here.task_upkeep.clear("site1") == 1


# --- the job's own work


def test_errors_of_the_jobs_own_work_are_its_own() -> None:
    """What it has left unwritten is written before its record, and fails as if alone."""
    job = tracked()
    with pytest.raises(Exception, match="(?i)unique|duplicate"), running(job) as (message, session):
        session.db.add_all([Account(name="twice"), Account(name="twice")])
        runtime.current().tracking.complete(message, session, None)
    assert stored(job)["status"] == "Running"


# --- a real worker


def seen(job: Any) -> tuple[Any, ...]:
    """What its document says, in a transaction of its own."""
    with frappe.site("site1"):
        task = frappe.get_doc(TASK, job.task_id)
        return task.status, task.progress, task.stage


def test_a_worker_completes_it_with_its_work_and_shows_its_progress(
    server: Any, make_bench: Any, tmp_path: Any
) -> None:
    bench = make_bench()
    bench.write("site1/site_config.json", server.config("site1"))
    if server.kind == "sqlite":
        bench.sites.joinpath("site1/site.db").write_bytes(server.template.read_bytes())
    bench.use()

    def until(name: str) -> Path:
        """Of each job another file: one that begins must not find its predecessor's."""
        return tmp_path / f"until_{name}"

    with frappe.site("site1"):
        frappe.new_doc("Account", name="cash").insert()
        jobs = {
            touch: frappe.enqueue(
                tasks.report, until=str(until(touch)), touch=touch, track_job=True
            )
            for touch in ("", "read", "write")
        }
        until("failing").touch()
        failing = frappe.enqueue(
            tasks.report, until=str(until("failing")), fail=True, track_job=True
        )
    with bench.worker():
        for touch, job in jobs.items():
            wait_until(lambda job=job: seen(job) == ("Running", 40.0, "counting"), 20)
            until(touch).touch()
            assert job.wait(20) == {"accounts": 1}
        with pytest.raises(frappe.JobFailed):
            failing.wait(20)
    for job in jobs.values():
        row = stored(job)
        assert (row["status"], row["result"]) == ("Completed", '{"accounts": 1}')
        assert (row["progress"], row["stage"], row["ref_docname"]) == (100.0, "counting", "cash")
    row = stored(failing)
    assert (row["status"], row["progress"], row["result"]) == ("Failed", 40.0, None)
    assert "the report failed" in row["exception"]
    with frappe.site("site1"):
        assert frappe.get_doc("Account", "cash").balance == 21
