"""What a job has written is committed with its done marker, and never a second time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
import redis
from acme import once, tasks, trace
from recorded import come_due
from redis_commands import commands
from sqlalchemy import event, select

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.background_task.record import record_of as record_for
from frappe_jobs.config import load_settings
from frappe_jobs.dispatch import Options
from frappe_jobs.effects.run import LONGEST_RESULT
from frappe_jobs.errors import JobFailed
from frappe_jobs.execute import RunAgain
from frappe_jobs.execute.executor import Executor
from frappe_jobs.host.done_markers import AlreadyDone, DoneMarker
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, Record
from frappe_jobs.message import Message, Sending
from frappe_jobs.standalone.models import DONE_MARKERS

HERE, THERE = "worker@here/1", "worker@there/2"


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def here(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, server: Any, request: pytest.FixtureRequest
) -> Iterator[runtime.Runtime]:
    """The bench of two sites, with a Redis and no worker; an account without money."""
    run_id = f"test-{uuid4().hex[:12]}"
    monkeypatch.setenv("FRAPPE_REDIS_QUEUE", redis_url)
    monkeypatch.setenv("FRAPPE_BENCH_ID", run_id)
    request.getfixturevalue("host")
    monkeypatch.setenv("SITES_PATH", str(runtime.current().settings.sites_path))
    with frappe.site("site1"):
        frappe.new_doc("Account", name="cash").insert()
    yield runtime.current()
    with redis.Redis.from_url(redis_url) as it:
        for key in it.scan_iter(f"*{run_id}*", count=10_000):
            it.delete(key)


def recorded(method: Any, **arguments: Any) -> Message:
    """A job that waits, as a worker gets it."""
    here = runtime.current()
    options = Options(
        on_success=arguments.pop("on_success", None), track_job=arguments.pop("track_job", False)
    )
    with frappe.site("site1") as session:
        message = here.dispatcher.compose(method, arguments, options, session)
    here.ledger.record([Sending(message)])
    return message


def run(message: Message, holder: str = HERE) -> Any:
    """What a worker's process does with it, once its time has come."""
    come_due(runtime.current().ledger, message)
    return runtime.current().executor.execute(message, holder=holder, timed_out=TimeoutError)


def record_of(message: Message) -> Record:
    found = runtime.current().ledger.read(message.id)
    assert found
    return found


def balance() -> int:
    with frappe.site("site1"):
        return int(frappe.get_doc("Account", "cash").balance)


def markers() -> list[str]:
    with frappe.site("site1") as session:
        return [*session.db.scalars(select(DONE_MARKERS.c.name))]


def process_lost(message: Message) -> None:
    """Run it, as if its process had been killed right behind the commit: nobody notes its end."""
    ledger = runtime.current().ledger
    key = ledger._key("record", message.id)
    waiting = ledger.redis.hgetall(key)
    run(message)
    ledger.redis.delete(key)
    started = {"status": "started", "attempt": 1, "worker": HERE, "run": "a run"}
    ledger.redis.hset(key, mapping=waiting | started)
    ledger.redis.zadd(ledger._key("open", message.site), {message.id: message.enqueued_at})


def again(message: Message) -> None:
    """As after a retry: the job waits once more."""
    ledger = runtime.current().ledger
    key = ledger._key("record", message.id)
    ledger.redis.hset(key, mapping={"status": "queued", "attempt": 1})
    ledger.redis.persist(key)
    ledger.redis.zadd(ledger._key("open", message.site), {message.id: message.enqueued_at})


def flush() -> None:
    """Redis has lost all that it knew of the bench."""
    here = runtime.current()
    here.ledger.redis.delete(*here.ledger.redis.scan_iter(f"{here.settings.prefix}*"))


@contextmanager
def sent_to_the_database() -> Iterator[list[str]]:
    """The statements of this process, on whichever connection."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    with frappe.site("site1") as session:
        engine = session.db.get_bind()
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


class TestWhatIsMarked:
    def test_a_job_that_writes_commits_its_marker_with_its_work(self) -> None:
        message = recorded(once.deposit)
        assert run(message) == 5
        assert (balance(), markers()) == (5, [message.id])

    def test_a_job_that_only_reads_pays_no_statement(self) -> None:
        message = recorded(once.read)
        with sent_to_the_database() as sent:
            assert run(message) == 1
        assert [one for one in sent if not one.startswith(("BEGIN", "PRAGMA"))] == [
            "SELECT count(*) AS count_1 \nFROM account"
        ]
        assert markers() == []

    def test_a_job_that_only_reads_pays_no_command_to_redis(
        self, here: runtime.Runtime, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cost(executor: Executor, method: Any) -> list[str]:
            for _ in range(2):  # what is asked for and loaded once does not count
                message = recorded(method)
                with commands(redis_url, here.settings.bench_id) as seen:
                    executor.execute(message, holder=HERE, timed_out=TimeoutError)
            # Whether the site is away is asked every few seconds, and said where the answer's time
            # is over when the job ends: on a slow machine here, too.
            return [name for name in seen if name not in ("EXISTS", "DEL")]

        marked = [cost(here.executor, one) for one in (once.read, once.deposit)]
        monkeypatch.setenv("FRAPPE_JOBS_DONE_MARKERS", "false")
        without = runtime.Runtime(load_settings(here.settings.sites_path)).executor
        unmarked = [cost(without, one) for one in (once.read, once.deposit)]
        assert marked[0] == unmarked[0]
        assert len(marked[1]) == len(unmarked[1]) + 1  # whether it still has its lease

    def test_a_job_that_never_asks_its_database_pays_nothing(self) -> None:
        message = recorded(tasks.ping)
        with sent_to_the_database() as sent:
            run(message)
        assert (sent, markers()) == ([], [])

    def test_a_job_that_has_failed_is_not_marked(self) -> None:
        message = recorded(tasks.deposit, account="cash", amount=5, fail=True)
        with pytest.raises(ValueError):
            run(message)
        assert (balance(), markers()) == (0, [])

    def test_the_last_commit_marks_what_was_committed_before(self) -> None:
        message = recorded(once.deposit_and_commit)
        run(message)
        assert markers() == [message.id]

    def test_statements_that_are_not_the_orms_count_as_well(self) -> None:
        message = recorded(once.execute, statement="UPDATE account SET balance = 9")
        run(message)
        assert (balance(), markers()) == (9, [message.id])

    def test_nothing_is_marked_where_the_setting_says_so(
        self, here: runtime.Runtime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FRAPPE_JOBS_DONE_MARKERS", "false")
        message = recorded(once.deposit)
        unmarked = runtime.Runtime(load_settings(here.settings.sites_path))
        unmarked.executor.execute(message, holder=HERE, timed_out=TimeoutError)
        assert (balance(), markers()) == (5, [])


class TestOneThatMayHaveRun:
    def test_its_process_died_behind_the_commit(self) -> None:
        message = recorded(once.deposit)
        process_lost(message)
        assert run(message, THERE) == 5
        record = record_of(message)
        assert (balance(), record.status, record.result) == (5, FINISHED, 5)

    @pytest.mark.parametrize("died", [2, 4])
    def test_so_did_too_many_that_were_to_note_it(self, died: int) -> None:
        message = recorded(once.deposit, on_success=tasks.on_success)
        process_lost(message)
        ledger = runtime.current().ledger
        ledger.redis.hset(ledger._key("record", message.id), "died", died)
        assert run(message, THERE) == 5
        record = record_of(message)
        assert (balance(), record.status, record.result) == (5, FINISHED, 5)
        assert trace.marks("on_success")[-1]["result"] == 5

    def test_of_one_that_kills_whoever_looks_for_its_marker_as_well_it_is_not_looked_for(
        self,
    ) -> None:
        message = recorded(once.deposit)
        process_lost(message)
        ledger = runtime.current().ledger
        ledger.redis.hset(ledger._key("record", message.id), "died", 5)
        with pytest.raises(JobFailed, match="its process died 6 times"):
            run(message, THERE)
        assert record_of(message).status == FAILED

    def test_its_record_was_lost(self) -> None:
        message = recorded(once.deposit)
        run(message)
        flush()
        assert run(message, THERE) == 5
        assert (balance(), record_of(message).status) == (5, FINISHED)

    def test_its_record_was_lost_and_the_reply_that_it_begins(self, here: runtime.Runtime) -> None:
        message = recorded(once.deposit)
        flush()
        assert here.ledger.start(message, HERE, "a run").may_have_run
        assert here.ledger.start(message, HERE, "a run").may_have_run

    def test_what_it_has_committed_itself_is_done_again(self) -> None:
        """The limit: between a commit of its own and the job's nothing says that it is done."""
        message = recorded(once.deposit_and_commit, again=True)
        with pytest.raises(RunAgain):
            run(message)
        assert run(message, THERE) == 10
        assert balance() == 10

    def test_one_that_had_only_read_runs_again(self) -> None:
        message = recorded(once.read)
        run(message)
        flush()
        assert run(message, THERE) == 1

    def test_one_whose_process_died_before_the_commit_runs(self, here: runtime.Runtime) -> None:
        message = recorded(once.deposit)
        here.ledger.start(message, HERE)
        here.ledger.release(message, HERE)
        assert run(message, THERE) == 5
        assert (balance(), markers()) == (5, [message.id])

    def test_its_hooks_and_its_callback_are_called(self) -> None:
        message = recorded(once.deposit, on_success=tasks.on_success)
        process_lost(message)
        before = len(trace.marks("after_job"))
        run(message, THERE)
        assert [mark["result"] for mark in trace.marks("after_job")[before:]] == [5]
        assert trace.marks("on_success")[-1]["result"] == 5

    def test_its_background_task_says_so(self) -> None:
        message = recorded(once.deposit, track_job=True)
        with frappe.site("site1") as session:
            runtime.current().host.tasks.add(session, [record_for(message)])
        process_lost(message)
        run(message, THERE)
        with frappe.site("site1"):
            assert frappe.get_doc("Background Task", message.id).status == "Completed"
        assert balance() == 5

    def test_of_a_long_result_the_end_is_known(self) -> None:
        message = recorded(once.deposit_and_return, size=LONGEST_RESULT + 1)
        process_lost(message)
        assert run(message, THERE) is None
        assert (balance(), record_of(message).status) == (5, FINISHED)


class TestTheCommit:
    def test_its_reply_was_lost(self, server: Any) -> None:
        if server.kind == "sqlite":
            pytest.skip("SQLite has no connection that could be lost.")
        message = recorded(once.deposit_and_stumble, how="reply")
        assert run(message) == 5
        assert (balance(), record_of(message).status) == (5, FINISHED)

    def test_what_fails_behind_it_does_not_run_the_method_again(self) -> None:
        message = recorded(once.deposit_and_stumble, how="conflict")
        with pytest.raises(frappe.RetryBackgroundJobError):
            run(message)
        assert (balance(), record_of(message).status) == (5, FAILED)

    @pytest.mark.parametrize("what", ["run elsewhere", "cancelled"])
    def test_of_a_run_that_no_longer_counts_nothing_is_committed(self, what: str) -> None:
        message = recorded(once.deposit_meanwhile, what=what)
        assert run(message) is None
        assert (balance(), markers()) == (0, [])
        record = record_of(message)
        assert (record.status, record.worker) in [("started", THERE), (CANCELLED, HERE)]

    def test_of_two_runs_that_know_nothing_of_each_other_one_commits(
        self, here: runtime.Runtime
    ) -> None:
        """Redis was flushed while the job ran, so that the database alone can tell."""
        message = recorded(once.deposit)
        with here.host.session("site1") as other:
            here.host.done_markers.put(other, DoneMarker(message.id, "another run", "7"))
        assert run(message) == 7
        assert (balance(), record_of(message).status) == (0, FINISHED)


class TestTheTable:
    def test_a_marker_is_added_once(self, here: runtime.Runtime) -> None:
        markers, marker = here.host.done_markers, DoneMarker("a message", "a run", "1")
        with here.host.session("site1") as session:
            markers.put(session, marker)
        with pytest.raises(AlreadyDone), here.host.session("site1") as session:
            markers.put(session, marker)
        with here.host.session("site1") as session:
            assert markers.find(session, "a message") == marker
            assert markers.find(session, "A message") is None

    def test_old_ones_are_cleared_in_small_steps(
        self, here: runtime.Runtime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(here.host.done_markers, "chunk", 3)
        found, now = here.host.done_markers, datetime.now(timezone.utc)
        with here.host.session("site1") as session:
            for number in range(8):
                found.put(session, DoneMarker(str(number), "a run", None))
        assert found.clear("site1", now - timedelta(days=1)) == 0
        assert found.clear("site1", now + timedelta(days=1)) == 8
        assert markers() == []


class TestSteps:
    def test_a_step_that_is_done_is_passed_over(self) -> None:
        message = recorded(once.in_steps, fail_at=2)
        with pytest.raises(ValueError):
            run(message)
        assert (balance(), len(markers())) == (2, 2)
        again(message)
        assert run(message, THERE) == [1, 2, 3]
        assert balance() == 3

    def test_what_a_step_does_before_it_fails_is_rolled_back(self) -> None:
        message = recorded(once.in_steps, fail_at=0)
        with pytest.raises(ValueError):
            run(message)
        assert (balance(), markers()) == (0, [])

    def test_a_step_is_done_once_in_a_run(self) -> None:
        assert run(recorded(once.same_step_twice)) == [1, 1]
        assert balance() == 1

    def test_a_result_that_is_too_long_is_an_error_before_anything_is_committed(self) -> None:
        message = recorded(once.long_step, size=LONGEST_RESULT + 1)
        with pytest.raises(frappe.FrappeJobsError, match="up to 10,000 are kept"):
            run(message)
        assert balance() == 0

    def test_outside_of_a_job_it_is_a_plain_call(self) -> None:
        with frappe.site("site1"):
            assert frappe.step("a step", max, 1, 2) == 2
            assert [*frappe.resume([1, 2])] == [1, 2]
            assert [*frappe.resume(lambda last: [last, 3])] == [None, 3]
        assert markers() == []


class TestLoops:
    @pytest.mark.parametrize("rows", ["list", "keys", "function"])
    def test_it_goes_on_behind_what_is_committed(self, rows: str) -> None:
        message = recorded(once.loop, rows=rows, count=10, every=3, fail_at=8)
        with pytest.raises(ValueError):
            run(message)
        assert balance() == 6  # two whole batches
        again(message)
        assert run(message, THERE) == 10
        assert balance() == 10

    def test_when_its_worker_must_stop_it_is_put_off(self, here: runtime.Runtime) -> None:
        message = recorded(once.loop, rows="list", count=10, every=100)
        for number in range(1, 10):
            come_due(here.ledger, message)
            with pytest.raises(RunAgain):
                here.executor.execute(
                    message, holder=HERE, timed_out=TimeoutError, must_stop=lambda: True
                )
            assert balance() == number
        record = record_of(message)
        assert (record.status, record.reason, record.died) == ("queued", None, 0)
        assert run(message) == 10
        assert balance() == 10

    def test_when_its_timeout_is_near_it_is_put_off(self) -> None:
        message = recorded(once.loop, rows="list", count=10, every=100, seconds=0.3)
        message = replace(message, timeout=2)
        runs = 0
        while True:
            runs += 1
            try:
                run(message)
                break
            except RunAgain:
                pass
        assert (balance(), runs > 1) == (10, True)

    def test_a_row_that_is_gone_is_an_error(self) -> None:
        message = recorded(once.loop, rows="keys", count=10, every=3, fail_at=4, gone=3)
        for text in ("4", "is not among its rows any more"):
            with pytest.raises((ValueError, frappe.FrappeJobsError), match=text):
                run(message)
            again(message)
        assert balance() == 3

    def test_two_loops_of_one_name_are_an_error(self) -> None:
        with pytest.raises(frappe.FrappeJobsError, match="another"):
            run(recorded(once.two_loops))

    def test_a_loop_that_is_over_is_passed_over(self) -> None:
        message = recorded(once.loop, rows="list", count=4, every=3, fail_behind=True)
        with pytest.raises(ValueError):
            run(message)
        again(message)
        run(message)
        assert balance() == 4

    def test_of_two_runs_that_know_nothing_of_each_other_one_commits_a_batch(self) -> None:
        message = recorded(once.loop_twice_at_once, count=6)
        with pytest.raises(RunAgain):
            run(message)
        assert run(message) == 6
        assert balance() == 6


class TestRunAgainByHand:
    @pytest.fixture
    def failed(self) -> Any:
        """A job that has done two steps of three."""
        message = recorded(once.in_steps, fail_at=2)
        with pytest.raises(ValueError):
            run(message)
        return runtime.current().jobs.of(record_of(message))

    def test_it_goes_on_behind_its_steps(self, failed: Any) -> None:
        again = failed.requeue()
        assert run(again._record.message) == [1, 2, 3]
        assert balance() == 3

    def test_as_often_as_it_is_run(self, failed: Any, here: runtime.Runtime) -> None:
        second = failed.requeue()
        second.cancel()
        assert run(second.requeue()._record.message) == [1, 2, 3]

    def test_it_begins_at_its_start_where_that_is_asked_for(self, failed: Any) -> None:
        assert run(failed.requeue(from_start=True)._record.message) == [3, 4, 5]

    def test_one_that_has_finished_begins_at_its_start(self) -> None:
        message = recorded(once.in_steps, fail_at=9)
        assert run(message) == [1, 2, 3]
        again = runtime.current().jobs.of(record_of(message)).requeue()
        assert run(again._record.message) == [4, 5, 6]
