"""The queues under Frappe's enqueue, on a real broker; Frappe itself has a stand-in here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import rq
from acme import tasks
from conftest import Bench, opened
from redis_commands import commands
from rq.exceptions import InvalidJobOperation, NoSuchJobError

from frappe_jobs.arguments import TAG, Arguments, of_type
from frappe_jobs.errors import ArgumentError, FrappeJobsError
from frappe_jobs.frappe_bench.rq import transport
from frappe_jobs.message import Retry
from frappe_jobs.testing import wait_until

STAND_IN = str(Path(__file__).parents[1] / "stand_in")


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Any]:
    """Frappe's stand-in, importable as Frappe."""
    sys.path.insert(0, STAND_IN)
    try:
        yield import_module("frappe.utils.background_jobs")
    finally:
        sys.path.remove(STAND_IN)
        for name in [one for one in sys.modules if one.partition(".")[0] == "frappe"]:
            del sys.modules[name]


@pytest.fixture
def frappe_of(stand_in: Any) -> Iterator[Callable[[Bench], Any]]:
    """Puts our queues under its functions, for a bench whose first site is open."""

    def under(bench: Bench) -> Any:
        local = sys.modules["frappe"].local
        local.sites_path, local.site, local.frappe_jobs_looked_up = bench.sites, "site1", None
        transport.install()
        return stand_in

    yield under
    transport.uninstall()


@pytest.fixture
def jobs(on_redis: Bench, frappe_of: Callable[[Bench], Any]) -> Any:
    """Frappe's background_jobs on a bench without a worker."""
    return frappe_of(on_redis)


@pytest.fixture
def served(shared: Bench, frappe_of: Callable[[Bench], Any]) -> Iterator[Any]:
    """The same on a bench with one."""
    with opened(shared):
        yield frappe_of(shared)


def test_a_job_is_sent_found_and_deleted(jobs: Any) -> None:
    job = jobs.enqueue("acme.tasks.add", job_id="one", x=1, y=2)
    queue = jobs.get_queue("default")
    assert (job.id, job.get_status(), job.get_position()) == ("site1::one", "queued", 0)
    assert job.kwargs["method"] == "acme.tasks.add" and job.kwargs["kwargs"] == {"x": 1, "y": 2}
    assert (queue.count, queue.get_job_ids(), queue.jobs) == (1, ["site1::one"], [job])
    assert jobs.get_job("one") == job and jobs.get_job("two") is None
    assert jobs.Job.fetch("site1::one") == job
    job.delete()
    assert queue.count == 0 and job.get_status() is None
    with pytest.raises(NoSuchJobError):
        job.refresh()


def test_frappes_look_and_send_are_one_step(jobs: Any) -> None:
    """Between its look and its sending another process may send the same."""
    queue = jobs.get_queue("default")

    class LateQueue(type(queue)):  # type: ignore[misc]
        def enqueue_call(self, *arguments: Any, **options: Any) -> Any:
            call = {"method": "acme.tasks.add", "kwargs": {"x": 5}}
            other = self.__class__.__mro__[1]("default")
            known, local.frappe_jobs_looked_up = local.frappe_jobs_looked_up, set()
            assert other.enqueue_call(jobs.execute_job, kwargs=call, job_id=options["job_id"])
            local.frappe_jobs_looked_up = known
            return super().enqueue_call(*arguments, **options)

    local = sys.modules["frappe"].local
    original, jobs.get_queue = jobs.get_queue, lambda *_, **__: LateQueue("default")
    try:
        assert jobs.enqueue("acme.tasks.add", job_id="two", deduplicate=True, x=1) is None
    finally:
        jobs.get_queue = original
    assert [job.kwargs["kwargs"] for job in queue.jobs] == [{"x": 5}]


def test_an_id_that_frappe_makes_takes_no_key_of_its_own(jobs: Any, on_redis: Bench) -> None:
    """It is its message's as well: found as any other, and no other job has it."""
    made = [jobs.enqueue("acme.tasks.add", x=1, y=n) for n in (1, 2)]
    given = jobs.enqueue("acme.tasks.add", job_id="given", x=1, y=3)
    assert [jobs.get_job(job.id.partition("::")[2]) for job in (*made, given)] == [*made, given]
    [key] = jobs.get_queue("default").connection.scan_iter(f"*{on_redis.id}:job:*")
    assert key.endswith(":site1:given")
    # Who sends that id once more means the job that it names then.
    again = jobs.enqueue("acme.tasks.add", job_id=made[0].id.partition("::")[2], x=4, y=4)
    assert jobs.get_job(again.id.partition("::")[2]).kwargs["kwargs"] == {"x": 4, "y": 4}


def test_how_long_a_queue_is_is_asked_once_for_a_job(
    make_bench: Callable[..., Bench], frappe_of: Callable[[Bench], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Frappe's enqueue asks where ``max_queued_jobs`` is set, and what it hears counts."""
    with opened(make_bench(max_queued_jobs=3)) as bench:
        jobs = frappe_of(bench)
        monkeypatch.setitem(sys.modules["frappe"].conf, "max_queued_jobs", 4)
        jobs.enqueue("acme.tasks.add", x=1, y=1)
        with commands(bench.redis_url, bench.id) as seen:
            jobs.enqueue("acme.tasks.add", x=1, y=2)
        assert seen == ["EVALSHA"] * 2
        queue = jobs.get_queue("default")
        assert queue.count == 2
        jobs.enqueue("acme.tasks.add", x=1, y=3)
        # What was heard before that counts no more.
        with pytest.raises(FrappeJobsError, match="'max_queued_jobs' is 3"):
            queue.enqueue_call("acme.tasks.add", kwargs={"x": 1, "y": 4})
        with pytest.raises(FrappeJobsError, match="'max_queued_jobs' is 3"):
            jobs.enqueue("acme.tasks.add", x=1, y=4)


def test_without_deduplicate_the_same_id_is_sent_again(jobs: Any) -> None:
    for _ in range(2):
        assert jobs.enqueue("acme.tasks.add", job_id="same", x=1, y=2)
    assert jobs.get_queue("default").count == 2


def test_ids_are_as_frappes_own_function_spells_them(
    jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later Frappes write ``site||id``, with | for every : in it."""

    def create_job_id(job_id: str) -> str:
        return f"{sys.modules['frappe'].local.site}||{job_id.replace(':', '|')}"

    monkeypatch.setattr(jobs, "create_job_id", create_job_id)
    job = jobs.enqueue("acme.tasks.add", job_id="a::b:1", x=1, y=2)
    assert job.id == "site1||a||b|1" and jobs.get_queue("default").job_ids == [job.id]
    assert jobs.get_job("a::b:1") == job == jobs.Job.fetch(job.id)
    assert sys.modules["frappe"].local.site == "site1"
    # Both spellings are read, whichever is written.
    assert jobs.Job.fetch("site1::a||b|1") == job


def test_a_job_that_waits_can_be_cancelled_once(jobs: Any) -> None:
    job = jobs.enqueue("acme.tasks.add", job_id="off", x=1, y=2)
    job.cancel()
    assert job.is_canceled and not job.is_stopped
    assert job.started_at is None and job.ended_at is None
    with pytest.raises(InvalidJobOperation):
        job.cancel()


def test_all_queues_are_ours_and_can_be_emptied(jobs: Any) -> None:
    for name in jobs.NAMES:
        jobs.enqueue("acme.tasks.add", job_id=name, queue=name, x=1, y=2)
    assert [queue.count for queue in jobs.get_queues()] == [1, 1, 1]
    assert [queue.empty() for queue in jobs.get_queues()] == [1, 1, 1]
    assert [len(queue) for queue in jobs.get_queues()] == [0, 0, 0]


def test_a_result_an_error_and_the_registries(served: Any) -> None:
    good = served.enqueue("acme.tasks.add", job_id="good", x=1, y=2)
    bad = served.enqueue("acme.tasks.fail", job_id="bad")
    wait_until(lambda: good.is_finished and bad.is_failed, 20)
    assert (good.result, good.latest_result().return_value, good.exc_info) == (3, 3, None)
    assert "Traceback" in bad.exc_info
    queue = served.get_queue("default")
    assert good in queue.finished_job_registry and bad in queue.failed_job_registry
    assert good not in queue.failed_job_registry
    again = bad.requeue()
    assert again.id == bad.id
    wait_until(lambda: again.is_failed, 20)
    queue.failed_job_registry.remove(again, delete_job=True)
    assert again not in queue.failed_job_registry


def test_the_worker_is_seen(served: Any) -> None:
    (worker,) = served.get_workers(served.get_queue("default"))
    assert worker.get_state() in ("idle", "busy") and worker.pid
    assert served.get_queue("default").name in worker.queue_names()


def test_what_is_not_async_is_called_here(jobs: Any) -> None:
    assert jobs.enqueue("acme.tasks.add", is_async=False, x=1, y=2).result == 3
    assert jobs.enqueue("acme.tasks.fail", is_async=False).is_failed


def test_what_rq_is_to_run_may_be_named(jobs: Any) -> None:
    """As later Frappes do: no function is pickled then."""
    call = {"method": "acme.tasks.add", "kwargs": {"x": 1}}
    path = "frappe.utils.background_jobs.execute_job"
    job = jobs.get_queue("default").enqueue_call(path, kwargs=call)
    assert (job.kwargs["method"], job.kwargs["kwargs"]) == ("acme.tasks.add", {"x": 1})


def test_a_function_travels_by_its_path(jobs: Any) -> None:
    job = jobs.enqueue(tasks.add, job_id="function", x=1, y=2)
    assert job.kwargs["method"] == "acme.tasks.add"


class TestWhatRQsCallersGive:
    """``enqueue_call`` and ``enqueue`` of a queue, as apps written for RQ use them."""

    @pytest.mark.parametrize(
        ("retry", "kept"),
        [
            (rq.Retry(max=2), Retry(2, [0])),
            (rq.Retry(max=3, interval=[10, 30]), Retry(3, [10, 30])),
            (4, Retry(4)),
        ],
    )
    def test_a_retry_is_kept(self, jobs: Any, retry: Any, kept: Retry) -> None:
        job = jobs.get_queue("default").enqueue_call(tasks.add, kwargs={"x": 1}, retry=retry)
        assert job._record.message.retry == kept

    def test_a_job_that_fails_is_run_again(self, served: Any) -> None:
        job = served.get_queue("default").enqueue(tasks.fail, retry=rq.Retry(max=1))
        wait_until(lambda: job.is_failed, 20)
        job.refresh()
        assert job._record.attempt == 2

    def test_arguments_without_a_name_get_theirs(self, jobs: Any) -> None:
        queue = jobs.get_queue("default")
        assert queue.enqueue_call(tasks.add, (1, 2)).kwargs["kwargs"] == {"x": 1, "y": 2}
        assert queue.enqueue("acme.tasks.add", 1, y=2).kwargs["kwargs"] == {"x": 1, "y": 2}
        for arguments, given in (((1, 2, 3), {}), ((1,), {"x": 2})):
            with pytest.raises(ArgumentError):
                queue.enqueue_call(tasks.add, arguments, given)
        here = type(queue)("default", is_async=False)
        assert here.enqueue_call(tasks.add, (1, 2)).result == 3

    def test_a_description_is_its_name(self, jobs: Any) -> None:
        job = jobs.get_queue("default").enqueue(tasks.add, description="sum", job_timeout="2m")
        assert (job.description, job.timeout) == ("sum", 120)

    def test_no_job_waits_for_another_one(self, jobs: Any) -> None:
        queue = jobs.get_queue("default")
        with pytest.raises(ArgumentError, match="'depends_on' is RQ's"):
            queue.enqueue(tasks.add, depends_on=queue.enqueue(tasks.add))
        assert queue.count == 1

    def test_what_is_ignored_is_said_once(
        self, jobs: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue = jobs.get_queue("default")
        for _ in range(2):
            queue.enqueue_call(tasks.add, ttl=9, meta={"x": 1}, result_ttl=5, failure_ttl=5)
        assert [record.getMessage() for record in caplog.records] == [
            "enqueue_call was given meta, ttl: RQ's options, which are ignored here"
        ]


def test_uninstalled_it_is_rqs_again(jobs: Any) -> None:
    transport.uninstall()
    with pytest.raises(AssertionError, match="RQ was asked"):
        jobs.enqueue("acme.tasks.add", x=1, y=2)


class TestAnObjectWithItsMethod:
    """What bound methods become; a document's are proven beside a real bench."""

    @pytest.fixture
    def bound(self, stand_in: Any) -> Any:
        return import_module("frappe_jobs.frappe_bench.host.bound")

    def sent(self, bound: Any, method: Any) -> tuple[Any, dict[str, Any]]:
        function, of = bound.split(method)
        codec = of_type(
            bound.BoundTo,
            lambda one: bound.attributes(one, lambda name: False, lambda value: True),
            bound.rebuilt,
            bound.NAME,
        )
        arguments = Arguments([codec])
        return function, arguments.decode(arguments.encode({bound.SELF: of, "number": 2}))

    def test_is_its_function_with_an_equal_object_for_self(self, bound: Any) -> None:
        till = tasks.Till("north", {"a": (1, 2)})
        function, arguments = self.sent(bound, till.count)
        assert function is tasks.Till.count and arguments[bound.SELF] is not till
        assert bound.as_called(function)(**arguments) == ("north", {"a": (1, 2)}, 2)

    def test_a_plain_function_or_a_classs_own_method_is_none(self, bound: Any) -> None:
        assert [bound.split(one) for one in (tasks.add, tasks.Till.opened, len)] == [None] * 3
        assert bound.as_called(tasks.add) is tasks.add
        assert bound.as_called(tasks.Till.size)(number=3) == 3

    def test_of_another_app_no_object_is_made(self, bound: Any) -> None:
        for path in ("subprocess.Popen", "acme.tasks.add", "acme.tasks.os.system"):
            with pytest.raises(FrappeJobsError):
                bound.rebuilt({"class": path, "attributes": {}})

    def test_people_are_shown_its_class_alone(self, bound: Any) -> None:
        sent = {bound.SELF: {TAG: bound.NAME, "value": {"class": "a.B", "attributes": {"pin": 1}}}}
        assert bound.for_people({**sent, "x": 1}) == {bound.SELF: "a.B", "x": 1}
        assert bound.document_of(sent) is None and bound.for_people({"self": 5}) == {"self": 5}
