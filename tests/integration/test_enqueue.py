"""What enqueue promises, through a real Redis and a real worker process."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from acme import tasks
from acme.models import Account
from celery.result import AsyncResult

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.testing import wait_until


@pytest.fixture
def site1(shared):
    with frappe.site("site1", user="grete@acme.test") as session:
        yield session


@pytest.fixture
def accounts(shared):
    with frappe.site("site1"):
        tasks.install()
        frappe.db.query(Account).delete()
        frappe.new_doc("Account", name="cash").insert()
    return shared


def balance(name="cash"):
    with frappe.site("site1"):
        return frappe.get_doc("Account", name).balance


class TestMethod:
    def test_a_function_runs_in_the_worker_on_its_site_as_its_user(self, shared):
        with frappe.site("site2", user="grete@acme.test"):
            job = frappe.enqueue(tasks.whoami, queue="short")
        assert job.wait(10) == [
            "site2",
            "grete@acme.test",
            job.id,
            "short",
            "acme.tasks.whoami",
            1,
        ]
        assert job.status == "finished"

    def test_a_dotted_path_runs(self, site1):
        assert frappe.enqueue("acme.tasks.add", x=1, y=2).wait(10) == 3

    def test_a_static_method_runs(self, site1):
        assert frappe.enqueue(tasks.Calculator.double, x=4).wait(10) == 8

    @pytest.mark.parametrize("method", [lambda: 1, tasks.add.__get__(1), object(), 7, None])
    def test_what_no_worker_could_find_is_refused(self, site1, method):
        with pytest.raises((errors.MethodNotFound, errors.ArgumentError)):
            frappe.enqueue(method)

    @pytest.mark.parametrize("path", ["os.system", "acme.tasks.system", "acme.tasks.os.system"])
    def test_a_method_of_no_installed_app_is_refused(self, site1, path):
        with pytest.raises(errors.MethodNotAllowed, match="may not run"):
            frappe.enqueue(path)

    @pytest.mark.parametrize("keywords", [{"z": 1}, {"x": 1, "z": 1}, {}])
    def test_arguments_that_the_method_would_refuse_are_refused_at_the_call(self, site1, keywords):
        with pytest.raises(errors.ArgumentError, match="acme.tasks.add"):
            frappe.enqueue(tasks.add, **keywords)

    def test_an_argument_that_cannot_travel_is_named_with_its_type(self, site1):
        with pytest.raises(errors.JobNotSerializable, match=r"lines\[1\].*builtins.object"):
            frappe.enqueue(tasks.echo, lines=[1, object()])

    def test_a_job_over_the_size_limit_is_refused(self, make_bench):
        make_bench(frappe_jobs_max_message_size=2000).use()
        with frappe.site("site1"), pytest.raises(errors.MessageTooLarge, match="2000"):
            frappe.enqueue(tasks.echo, text="x" * 2000)

    def test_arguments_and_results_arrive_equal_and_of_the_same_type(self, site1):
        sent = {
            "when": datetime(2026, 3, 29, 2, 30, tzinfo=timezone.utc),
            "price": Decimal("1.10"),
            "pair": (1, {2, 3}),
            "by_number": {1: b"\x00\xff"},
            "__type__": {"__type__": "decimal", "__value__": "1"},
        }
        got = frappe.enqueue(tasks.echo, **sent).wait(10)
        assert got == sent
        assert type(got["pair"]) is tuple

    def test_without_an_open_site_the_error_says_how_to_open_one(self, shared):
        with pytest.raises(errors.HostNotReady, match="with frappe_jobs.site"):
            frappe.enqueue(tasks.ping)

    @pytest.mark.parametrize("name", ["nowhere", "../etc", "/etc", "site1/../site2", "", None])
    def test_a_site_that_does_not_exist_is_refused(self, shared, name):
        with pytest.raises(errors.SiteNotFound, match="site1, site2"), frappe.site(name):
            pass


class TestOptions:
    @pytest.mark.parametrize("queue", ["short", "default", "long", "reports"])
    def test_every_queue_of_the_bench_is_served(self, site1, queue):
        job = frappe.enqueue(tasks.whoami, queue)
        assert job.wait(10)[3] == job.queue == queue

    @pytest.mark.parametrize("queue", [None, ""])
    def test_no_queue_means_default(self, site1, queue):
        assert frappe.enqueue(tasks.ping, queue).queue == "default"

    def test_an_unknown_queue_is_an_error_that_lists_the_known_ones(self, site1):
        with pytest.raises(errors.UnknownQueue, match="short, default, long, reports"):
            frappe.enqueue(tasks.ping, "nope")

    def test_the_timeout_is_the_callers_else_the_queues(self, site1):
        assert frappe.enqueue(tasks.ping, timeout=7).timeout == 7
        timeouts = {
            queue: frappe.enqueue(tasks.ping, queue).timeout for queue in ("long", "reports")
        }
        assert timeouts == {"long": 1500, "reports": 600}
        assert frappe.get_queues_timeout() == {
            "short": 300, "default": 300, "long": 1500, "reports": 600,
        }  # fmt: skip

    @pytest.mark.parametrize("timeout", [-1, "10m", 1.5, True])
    def test_a_timeout_that_is_no_number_of_seconds_is_refused(self, site1, timeout):
        with pytest.raises(errors.ArgumentError, match="timeout"):
            frappe.enqueue(tasks.ping, timeout=timeout)

    @pytest.mark.parametrize("option", ["event", "job_name", "job_id"])
    def test_an_option_of_the_wrong_type_is_refused(self, site1, option):
        with pytest.raises(errors.ArgumentError, match=option):
            frappe.enqueue(tasks.ping, **{option: 5})

    def test_the_jobs_name_is_what_people_read_in_the_workers_log(self, site1, shared_worker):
        named, unnamed = frappe.enqueue(tasks.ping, job_name="Say pong"), frappe.enqueue(tasks.ping)
        assert (named.name, unnamed.name) == ("Say pong", "acme.tasks.ping")
        for job in (named, unnamed):
            job.wait(10)
            text = f"Task {job.name}[{job.message_id}] succeeded"
            wait_until(lambda text=text: text in shared_worker.log)

    def test_celery_knows_the_result_by_the_message_id(self, site1):
        job = frappe.enqueue(tasks.add, x=20, y=1)
        assert AsyncResult(job.message_id, app=runtime.current().app).get(timeout=10) == 21

    def test_a_job_can_be_retried_as_often_as_it_says(self, site1, shared):
        job = frappe.enqueue(tasks.fail, text="again", retry=frappe.Retry(1, interval=[1]))
        with pytest.raises(frappe.JobFailed, match="again"):
            job.wait(15)
        assert job.attempt == 2

    def test_each_retry_has_its_own_delay(self, site1, shared):
        job = frappe.enqueue(tasks.fail, retry=frappe.Retry(4, interval=[0, 0, 0, 2]))
        with pytest.raises(frappe.JobFailed):
            job.wait(20)
        assert job.attempt == 5
        moments = [mark["at"] for mark in shared.marks("fail")[-5:]]
        assert moments[4] - moments[3] > 1.9 > moments[1] - moments[0]

    @pytest.mark.parametrize("retry", [-1, "twice", 1.5, True])
    def test_a_retry_that_is_no_number_is_refused(self, site1, retry):
        with pytest.raises(errors.ArgumentError, match="(?i)retry"):
            frappe.enqueue(tasks.ping, retry=retry)


class TestNow:
    @pytest.mark.parametrize("how", [{"now": True}, {"is_async": False}, {"async": False}])
    def test_it_is_called_here_and_its_result_returned(self, make_bench, how):
        bench = make_bench(redis_queue="redis://127.0.0.1:1/0")  # nothing answers there
        bench.use()
        with frappe.site("site1"):
            assert frappe.enqueue(tasks.add, x=1, y=1, **how) == 2
        assert [mark["what"] for mark in bench.marks()] == ["add"]  # no hooks

    def test_in_a_job_it_is_called_there_without_hooks_of_its_own(self, shared, site1):
        seen = len(shared.marks("before_job"))
        assert frappe.enqueue(tasks.enqueue_now).wait(10) == "pong"
        assert len(shared.marks("before_job")) == seen + 1

    def test_it_runs_in_the_callers_transaction(self, accounts):
        with frappe.site("site1"):
            frappe.enqueue(tasks.deposit, now=True, account="cash", amount=5)
            frappe.db.rollback()
        assert balance() == 0

    def test_an_error_is_the_callers(self, site1):
        with pytest.raises(ValueError, match="on purpose"):
            frappe.enqueue(tasks.fail, now=True)

    def test_what_no_worker_would_run_is_not_run_here_either(self, site1):
        with pytest.raises(errors.MethodNotAllowed):
            frappe.enqueue("os.system", now=True, command="true")


class TestAfterCommit:
    def test_it_is_sent_when_the_transaction_commits(self, shared, site1):
        assert frappe.enqueue(tasks.echo, tag="committed", enqueue_after_commit=True) is None
        assert "acme.tasks.echo" not in frappe.get_jobs("site1").get("site1", [])
        frappe.db.commit()
        wait_until(lambda: {"tag": "committed"} in [m["kwargs"] for m in shared.marks("echo")])

    def test_it_is_dropped_when_the_transaction_rolls_back(self, shared, site1):
        frappe.enqueue(tasks.echo, tag="rolled back", enqueue_after_commit=True)
        frappe.db.rollback()
        frappe.db.commit()
        frappe.enqueue(tasks.ping).wait(10)  # a job behind it has run
        assert {"tag": "rolled back"} not in [m["kwargs"] for m in shared.marks("echo")]

    def test_what_is_wrong_with_it_is_said_at_the_call(self, site1):
        with pytest.raises(errors.UnknownQueue):
            frappe.enqueue(tasks.ping, "nope", enqueue_after_commit=True)

    def test_in_a_job_it_waits_for_the_jobs_commit(self, shared, site1):
        seen = len([mark for mark in shared.marks("add") if mark["x"] == 7])
        failed = frappe.enqueue(tasks.enqueue_further, rollback=True)
        with pytest.raises(frappe.JobFailed):
            failed.wait(10)
        frappe.enqueue(tasks.enqueue_further, rollback=False).wait(10)
        wait_until(lambda: [mark for mark in shared.marks("add") if mark["x"] == 7][seen:])
        frappe.enqueue(tasks.ping).wait(10)
        assert len([mark for mark in shared.marks("add") if mark["x"] == 7]) == seen + 1


class TestDocuments:
    def test_enqueue_doc_calls_the_documents_method(self, accounts):
        with frappe.site("site1"):
            job = frappe.enqueue_doc("Account", "cash", "deposit", "short", amount=4)
        assert (job.wait(10), job.timeout) == (4, 300)
        assert (job.name, job.queue, balance()) == ("Account.deposit", "short", 4)

    def test_a_documents_bound_method_becomes_enqueue_doc(self, accounts):
        with frappe.site("site1"):
            job = frappe.enqueue(frappe.get_doc("Account", "cash").deposit, amount=3)
        assert (job.wait(10), job.name) == (3, "Account.deposit")

    def test_now_calls_it_here(self, accounts):
        with frappe.site("site1"):
            assert frappe.enqueue_doc("Account", "cash", "deposit", now=True) == 1

    @pytest.mark.parametrize("method", ["_secret", "nope", "metadata", "__class__", None])
    def test_what_is_no_public_method_of_the_document_is_refused(self, accounts, method):
        with frappe.site("site1"), pytest.raises(errors.MethodNotFound, match="no method"):
            frappe.enqueue_doc("Account", "cash", method)

    def test_a_doctype_without_a_class_is_refused(self, site1):
        with pytest.raises(errors.DoesNotExistError, match="known: Account"):
            frappe.enqueue_doc("Nothing", "x", "deposit")

    def test_arguments_that_the_documents_method_would_refuse_are_refused(self, accounts):
        with frappe.site("site1"), pytest.raises(errors.ArgumentError, match="Account.deposit"):
            frappe.enqueue_doc("Account", "cash", "deposit", pieces=4)

    def test_a_document_travels_as_an_argument(self, accounts):
        with frappe.site("site1"):
            account = frappe.get_doc("Account", "cash")
            account.flags["ignore_permissions"] = True
            got = frappe.enqueue(tasks.echo, account=account).wait(10)["account"]
        assert type(got).__name__ == "Account"
        assert (got.name, got.balance, got.flags) == (
            "cash",
            0,
            {"ignore_permissions": True},
        )


class TestCeleryTasks:
    def test_a_celery_task_is_sent_as_itself(self, site1):
        result = frappe.enqueue(tasks.celery_add, "short", timeout=20, x=1, y=2)
        assert result.get(timeout=10) == 3
        assert runtime.current().ledger.read(result.id) is None

    def test_it_may_be_the_first_that_a_process_sends(self, shared, monkeypatch):
        monkeypatch.setattr(shared, "starts_cold", True)
        # A shared task binds itself to the app that it finds, and there is none yet.
        done = shared.python(
            "import frappe_jobs as frappe; from acme import tasks\n"
            "with frappe.site('site1'):\n"
            "    print(frappe.enqueue(tasks.celery_add, x=1, y=2).get(timeout=10))\n"
        )
        assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr

    def test_it_goes_behind_the_jobs_that_wait_or_to_the_front(self, bench):
        server = runtime.current().ledger.redis
        with frappe.site("site1"):
            frappe.enqueue(tasks.celery_add, "short", timeout=20, x=1, y=2)
            frappe.enqueue(tasks.celery_add, "short", at_front=True, x=1, y=2)
        behind, front = (server.lindex(f"{bench.id}:short{end}", 0) for end in ("\x06\x166", ""))
        assert json.loads(behind)["headers"]["timelimit"] == [30, 20]
        assert json.loads(front)["headers"]["timelimit"] == [310, 300]

    def test_in_a_process_that_ran_a_job_before_it_is_no_job(self, site1):
        for _ in range(4):
            frappe.enqueue(tasks.ping).wait(10)
        found = [frappe.enqueue(tasks.celery_current_job).get(timeout=10) for _ in range(4)]
        assert found == ["None"] * 4

    def test_now_calls_it(self, site1):
        assert frappe.enqueue(tasks.celery_add, now=True, x=1, y=2) == 3

    def test_an_option_that_only_jobs_have_is_an_error(self, site1):
        with pytest.raises(errors.ArgumentError, match="queue, timeout and at_front"):
            frappe.enqueue(tasks.celery_add, job_id="mine", x=1, y=2)


class TestCallbacks:
    def test_on_success_gets_the_job_the_connection_and_the_result(self, shared, site1):
        job = frappe.enqueue(tasks.add, x=5, on_success=tasks.on_success)
        mark = wait_until(lambda: of(shared, "on_success", job))
        assert (mark["result"], mark["status"], mark["ping"]) == (5, "finished", True)
        assert (mark["site"], mark["user"]) == ("site1", "grete@acme.test")

    def test_on_success_gets_the_result_as_the_method_returned_it(self, shared, site1):
        job = frappe.enqueue(tasks.return_it, what="object", on_success=tasks.on_success)
        mark = wait_until(lambda: of(shared, "on_success", job))
        assert "object object" in mark["result"]

    def test_on_failure_gets_the_error(self, shared, site1):
        job = frappe.enqueue(tasks.fail, on_failure="acme.tasks.on_failure")
        mark = wait_until(lambda: of(shared, "on_failure", job))
        assert (mark["type"], mark["value"], mark["status"]) == (
            "ValueError",
            "on purpose",
            "failed",
        )

    def test_an_error_in_a_callback_changes_nothing(self, shared, shared_worker, site1):
        job = frappe.enqueue(
            tasks.return_it,
            what="upset",
            on_success="acme.tasks.celery_add",
            on_failure=tasks.fail,
        )
        assert job.wait(10) == "upset the after_job hook"
        wait_until(lambda: "the callback acme.tasks.celery_add failed" in shared_worker.log)
        assert job.get_status() == "finished"
        assert not of(shared, "fail", job)

    def test_a_callback_that_would_end_the_process_changes_nothing(self, shared_worker, site1):
        job = frappe.enqueue(tasks.ping, on_success=tasks.end_the_process)
        wait_until(lambda: f"[{job.message_id}] succeeded" in shared_worker.log)
        wait_until(lambda: "the callback acme.tasks.end_the_process failed" in shared_worker.log)
        assert job.get_status() == "finished"

    def test_what_cannot_be_committed_after_the_job_changes_nothing(
        self, accounts, shared_worker, site1
    ):
        job = frappe.enqueue(tasks.ping, on_success=tasks.leave_a_duplicate)
        wait_until(lambda: f"[{job.message_id}] succeeded" in shared_worker.log)
        wait_until(lambda: "closing the site failed; the job's end stands" in shared_worker.log)
        assert job.get_status() == "finished"

    def test_a_callback_of_no_installed_app_is_refused_at_the_call(self, site1):
        with pytest.raises(errors.MethodNotAllowed):
            frappe.enqueue(tasks.ping, on_success="os.system")


def of(bench, what, job):
    """The mark that a callback of that job left."""
    return next((mark for mark in bench.marks(what) if mark.get("job") == job.id), None)
