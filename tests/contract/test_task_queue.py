"""``enqueue_task`` as in Frappe 16; its jobs are run by run_jobs."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from acme import followed, tasks
from sqlalchemy import update
from sqlalchemy.orm import Session

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.errors import (
    ArgumentError,
    DoesNotExistError,
    HostError,
    JobError,
    JobNotSerializable,
    MethodNotAllowed,
    PermissionError,
)
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.testing import run_jobs

TASK = "Background Task"
#: Of Frappe 16, in its order.
KEYWORDS = (
    "task_name queue timeout ref_doctype ref_docname deduplicate job_id enqueue_after_commit now "
    "on_success on_failure retry_on max_retries show_progress_bar allow_user_cancellation "
    "allow_user_retry at_front at_front_when_starved kwargs"
).split()


#: Where it matters which database it is.
EVERY_DATABASE = pytest.mark.parametrize("server", ["sqlite", "postgres", "mariadb"], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(getattr(request, "param", "sqlite"))


@pytest.fixture(autouse=True)
def here(with_redis: None, host: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bench of two sites, with a Redis and no worker."""
    here = runtime.current()
    monkeypatch.setenv("SITES_PATH", str(here.settings.sites_path))  # for acme's marks
    return here


def enqueued(method: Any, *, user: str = "grete", **options: Any) -> str:
    """The id of a task of site1 that is enqueued and committed."""
    with frappe.site("site1", user=user):
        task_id: str = frappe.enqueue_task(method, **options).task_id
        return task_id


def ran(method: Any, **options: Any) -> Any:
    """The same, once it has run: as the database says it is."""
    task_id = enqueued(method, **options)
    run_jobs(fail_fast=False)
    return stored(task_id)


def stored(task_id: str) -> dict[str, Any]:
    with frappe.site("site1"):
        [row] = frappe.get_all(TASK, {"task_id": task_id}, ["*"])
        return row


def notes() -> list[str]:
    with frappe.site("site1"):
        return sorted(row["name"] for row in frappe.get_all("Account"))


# --- enqueue_task


def test_it_takes_frappes_keywords_in_their_order() -> None:
    assert [*inspect.signature(frappe.enqueue_task).parameters][1:] == KEYWORDS


@EVERY_DATABASE
def test_its_record_says_what_was_asked_for() -> None:
    with frappe.site("site1", user="grete"):
        task = frappe.enqueue_task(
            tasks.add, task_name="Add up", queue="short", job_id="sum", ref_doctype="Account",
            ref_docname="cash", on_success=followed.tell, on_failure="acme.followed.tell",
            show_progress_bar=False, allow_user_cancellation=False, allow_user_retry=False, x=1,
        )  # fmt: skip
        assert (task.doctype, task.status, task.user) == (TASK, "Queued", "grete")
        assert runtime.current().ledger.records("site1") == [], "it waits for the commit"
    expected = {
        "task_name": "Add up", "queue": "short", "job_id": "sum", "method": "acme.tasks.add",
        "arguments": '{"x":1}', "ref_doctype": "Account", "ref_docname": "cash",
        "on_success_callback": "acme.followed.tell", "on_failure_callback": "acme.followed.tell",
        "show_progress_bar": False, "allow_user_cancellation": False, "allow_user_retry": False,
        "status": "Queued",
    }  # fmt: skip
    row = stored(task.task_id)
    assert {name: row[name] for name in expected} == expected
    assert frappe.get_job("sum", "site1").task_id == task.task_id


def test_a_job_that_is_tracked_otherwise_allows_its_user_all() -> None:
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping, track_job=True)
    row = stored(job.task_id)
    shown = ("show_progress_bar", "allow_user_cancellation", "allow_user_retry")
    assert [row[name] for name in shown] == [True] * 3
    assert row["on_success_callback"] is row["on_failure_callback"] is None


@pytest.mark.parametrize("after_commit", [True, False])
def test_a_rollback_drops_it_whatever_is_said(after_commit: bool) -> None:
    with pytest.raises(KeyError), frappe.site("site1"):
        frappe.enqueue_task(tasks.ping, enqueue_after_commit=after_commit)
        raise KeyError
    with frappe.site("site1"):
        assert frappe.get_all(TASK) == []
    assert runtime.current().ledger.records("site1") == []


def test_what_cannot_be_enqueued_is_refused_and_nothing_is_written() -> None:
    for method, options, error, says in (
        (tasks.celery_add, {}, ArgumentError, "is a Celery task"),
        (tasks.ping, {"on_success": "os.system"}, MethodNotAllowed, "no installed app"),
        (tasks.ping, {"on_failure": "acme.tasks.system"}, MethodNotAllowed, "no installed app"),
        (tasks.ping, {"ref_doctype": "d" * 2, "no_such": 1}, ArgumentError, "no_such"),
        (tasks.ping, {"retry_on": (int,), "max_retries": 1}, ArgumentError, "classes of errors"),
        (tasks.ping, {"retry_on": KeyError, "max_retries": -1}, ArgumentError, "1 or more"),
        (tasks.echo, {"deduplicate": True}, ArgumentError, "needs a job_id"),
    ):  # fmt: skip
        with frappe.site("site1"), pytest.raises(error, match=says):
            frappe.enqueue_task(method, **options)
    with frappe.site("site1"):
        assert frappe.get_all(TASK) == []


def test_who_wants_an_id_that_is_taken_gets_the_task_that_has_it() -> None:
    task_id = enqueued(tasks.ping, job_id="mine")
    assert enqueued(tasks.ping, job_id="mine", deduplicate=True) == task_id
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping, job_id="plain")
        assert frappe.enqueue_task(tasks.ping, job_id="plain", deduplicate=True) is None
        assert len(frappe.get_all(TASK)) == 1


# --- while it runs


@EVERY_DATABASE
def test_it_says_how_far_it_is_and_stores_its_result() -> None:
    row = ran(followed.import_orders, account="cash", count=7)
    assert (row["status"], row["progress"], row["stage"]) == ("Completed", 100.0, "counting")
    assert json.loads(row["result"])["imported"] == 7
    assert json.loads(row["result"])["seen"]["value"] == ["Running", 40.0, "counting"]
    assert notes() == ["cash"]


@pytest.mark.parametrize("result", [None, "returned"])
def test_what_it_returns_takes_the_place_of_what_it_stored(result: Any) -> None:
    row = ran(followed.store_and_return, result=result)
    assert row["result"] == json.dumps(result or "stored")


@EVERY_DATABASE
def test_what_a_job_that_fails_has_stored_is_rolled_back() -> None:
    row = ran(followed.store_and_fail)
    assert (row["status"], row["result"]) == ("Failed", None)
    assert "KeyError: 'failed'" in row["exception"]


@EVERY_DATABASE
def test_a_result_whose_record_is_locked_is_written_with_the_jobs_end(here: Any) -> None:
    task_id = enqueued(tasks.ping)
    [record] = here.ledger.records("site1")
    impatient, message = Tracking(here.host, here.ledger, patience=0), record.message
    here.ledger.start(message, "a worker")
    with frappe.site("site1", user="grete") as session:
        impatient.begin(message, session)
        with Session(session.db.get_bind()) as other:
            other.execute(update(BackgroundTask).values(stage="locked"))
            impatient.store(message, '"stored"')
        assert impatient.complete(message, session, None)
    assert stored(task_id)["result"] == '"stored"'


def test_a_result_that_cannot_travel_is_refused_and_the_job_hears_of_it() -> None:
    row = ran(followed.store_and_return, result=None)
    with frappe.site("site1"), pytest.raises(JobError, match="Only the job of .* itself stores"):
        frappe.get_doc(TASK, row["task_id"]).store_result(1)
    with frappe.site("site1"), pytest.raises(JobNotSerializable):
        frappe.enqueue_task(followed.store_and_return, now=True, result=object())


def test_a_site_without_frappe_keeps_no_files() -> None:
    assert "orders.csv' cannot be attached" in ran(followed.attach)["exception"]
    with frappe.site("site1"), pytest.raises(HostError, match="keeps no files"):
        frappe.enqueue_task(followed.attach, now=True)


def test_only_the_job_itself_says_how_far_it_is() -> None:
    other = enqueued(tasks.ping)
    row = ran(followed.speak_for, task_id=other)
    assert f"Only the job of {TASK} {other} itself says how far it is" in row["exception"]
    assert stored(other)["progress"] == 100.0


def test_the_current_task_is_that_of_the_job_that_runs() -> None:
    row = ran(followed.whose, task_name="Whose", ref_doctype="Account", ref_docname="cash")
    assert json.loads(row["result"]) == [row["task_id"], "Whose", "cash", "grete"]
    with frappe.site("site1"):
        assert frappe.get_current_task() is None
        job = frappe.enqueue(followed.whose)
    run_jobs()
    assert job.wait() == [None]


# --- callbacks


@EVERY_DATABASE
def test_callbacks_get_what_they_take_after_the_jobs_end() -> None:
    ran(tasks.add, task_name="a", on_success=followed.tell, x=1, y=2)
    ran(tasks.add, on_success=followed.tell_result, on_failure=followed.tell, x=3)
    ran(tasks.fail, on_success=followed.tell, on_failure=followed.tell_exception, text="no")
    assert notes() == [
        "ValueError('no') of no", "a: Completed {'result': '3', 'x': '1', 'y': '2'}", "result 3"
    ]  # fmt: skip


@EVERY_DATABASE
def test_an_error_in_a_callback_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    row = ran(tasks.ping, task_name="pings", on_success=followed.write_and_fail)
    assert (row["status"], row["result"], notes()) == ("Completed", '"pong"', [])
    assert "on_success_callback acme.followed.write_and_fail of pings" in caplog.text
    assert "the callback's own" in caplog.text


@EVERY_DATABASE
def test_the_on_failure_of_a_killed_job_is_called(here: Any) -> None:
    task_id = enqueued(tasks.echo, on_failure=followed.tell, task_name="killed")
    [record] = here.ledger.records("site1")
    here.ledger.start(record.message, "a worker")
    here.killed(record.message, "its process died")
    run_jobs(fail_fast=False)
    assert notes() == ["killed: Failed {'exception': 'its process died'}"]
    assert stored(task_id)["status"] == "Failed"


# --- retries


@pytest.mark.parametrize("error, status", [("key", "Completed"), ("value", "Failed")])
def test_it_is_run_again_after_the_errors_that_are_named(error: str, status: str) -> None:
    options = {"retry_on": (LookupError, "acme.models.NoSuchError"), "max_retries": 2}
    assert ran(followed.fail_first, error=error, **options)["status"] == status


@pytest.mark.parametrize("options", [{"retry_on": (KeyError,)}, {"max_retries": 3}])
def test_it_is_not_run_again_without_both(options: Any) -> None:
    assert ran(followed.fail_first, error="key", **options)["status"] == "Failed"


# --- now


@EVERY_DATABASE
def test_now_calls_it_here_with_a_record_and_its_callback() -> None:
    with frappe.site("site1", user="grete"):
        task = frappe.enqueue_task(
            followed.import_orders, now=True, on_success=followed.tell, task_name="here",
            account="cash",
        )  # fmt: skip
        assert (task.status, task.progress, task.stage) == ("Completed", 100.0, "counting")
        assert frappe.get_current_task() is None
    row = stored(task.task_id)
    assert (row["status"], json.loads(row["result"])["imported"]) == ("Completed", 1)
    assert row["started_at"] <= row["ended_at"]
    assert notes() == ["cash", "here: Completed {'account': 'cash', 'result': 'None'}"]
    assert runtime.current().ledger.records("site1") == []


@EVERY_DATABASE
def test_an_error_now_is_raised_and_the_record_says_so_if_that_is_committed() -> None:
    with frappe.site("site1"):
        with pytest.raises(ValueError, match="no"):
            frappe.enqueue_task(
                tasks.fail, now=True, on_failure=followed.tell_exception, text="no"
            )  # fmt: skip
    with frappe.site("site1"):
        [row] = frappe.get_all(TASK, {}, ["*"])
    assert row["status"] == "Failed" and "ValueError: no" in row["exception"]
    assert notes() == ["ValueError('no') of no"]


@EVERY_DATABASE
def test_an_error_now_that_ends_the_transaction_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), frappe.site("site1"):
        with pytest.raises(Exception, match="nowhere"):
            frappe.enqueue_task(
                "acme.once.execute", now=True, statement="INSERT INTO nowhere VALUES (1)"
            )
        raise ZeroDivisionError


# --- afterwards


def test_the_status_is_that_of_the_job_now(here: Any) -> None:
    task_id = enqueued(followed.import_orders, account="cash")
    with frappe.site("site1"):
        assert frappe.get_task_status(task_id) == {
            "status": "Queued", "progress": 0.0, "stage": None, "result": None, "exception": None,
            "started_at": None, "ended_at": None,
        }  # fmt: skip
        [record] = here.ledger.records("site1")
        here.ledger.start(record.message, "a worker")
        here.ledger.note(record.message, {"progress": "30", "stage": "on it"})
        now = frappe.get_task_status(task_id)
        assert (now["status"], now["progress"], now["stage"]) == ("Running", 30.0, "on it")
        assert frappe.get_task_status("nobody's") is None


@EVERY_DATABASE
def test_it_is_stopped_and_run_again_by_its_user() -> None:
    task_id = enqueued(tasks.ping)
    with frappe.site("site1", user="grete"):
        frappe.stop_task(task_id)
    assert stored(task_id)["status"] == "Cancelled"
    with frappe.site("site1", user="grete"), pytest.raises(JobError, match="is Cancelled; only"):
        frappe.stop_task(task_id)
    with frappe.site("site1", user="grete"):
        frappe.retry_task(task_id)
    run_jobs()
    assert stored(task_id)["status"] == "Completed"
    with frappe.site("site1", user="grete"), pytest.raises(JobError, match="is Completed"):
        frappe.retry_task(task_id)


def test_a_task_that_is_not_there_is_neither_stopped_nor_run_again() -> None:
    for act in (frappe.stop_task, frappe.retry_task):
        with frappe.site("site1"), pytest.raises(DoesNotExistError):
            act("nobody's")


def test_what_was_run_again_calls_its_callbacks_as_well() -> None:
    task_id = enqueued(tasks.add, on_success=followed.tell_result, x=5)
    for act in (frappe.stop_task, frappe.retry_task):
        with frappe.site("site1", user="grete"):
            act(task_id)
    run_jobs()
    assert notes() == ["result 5"]


def test_its_user_may_not_cancel_it_while_it_runs_if_that_was_said(here: Any) -> None:
    task_id = enqueued(tasks.ping, allow_user_cancellation=False)
    [record] = here.ledger.records("site1")
    here.ledger.start(record.message, "a worker")
    with frappe.site("site1", user="grete"):
        with pytest.raises(PermissionError, match="grete may not cancel it while it runs"):
            frappe.stop_task(task_id)
    assert stored(task_id)["status"] == "Queued"
    with frappe.site("site1"):
        frappe.stop_task(task_id)
    assert stored(task_id)["status"] == "Cancelled"


def test_its_user_may_cancel_it_all_the_same_while_it_waits() -> None:
    task_id = enqueued(tasks.ping, allow_user_cancellation=False)
    with frappe.site("site1", user="grete"):
        frappe.stop_task(task_id)
    assert stored(task_id)["status"] == "Cancelled"


def test_its_user_may_not_run_it_again_if_that_was_said() -> None:
    task_id = ran(tasks.fail, allow_user_retry=False)["task_id"]
    with frappe.site("site1", user="grete"):
        with pytest.raises(PermissionError, match="grete may not run it again; Administrator may"):
            frappe.retry_task(task_id)
    with frappe.site("site1"):
        frappe.retry_task(task_id)
    assert stored(task_id)["status"] == "Queued"
