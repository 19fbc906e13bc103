"""What Celery's own tools say of our workers is true, and what they are told is done."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from acme import tasks
from celery import chord, group

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import slowness, wait_until


@pytest.fixture
def working(shared, shared_worker, tmp_path):
    """A job that is at work, until it is told to end."""
    until = tmp_path / "until"
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.hold, until=str(until), job_name="hold it")
        wait_until(lambda: job.get_status() == "started", 20)
        yield job
        until.touch()
        job.wait(20)


@pytest.fixture
def control(working):
    """Asks the shared worker alone: others may be on its Redis."""
    worker = runtime.current().ledger.read(working.message_id).worker
    name = worker.partition("/")[0]

    def ask(command, **arguments):
        replies = runtime.current().app.control.broadcast(
            command, arguments, destination=[name], reply=True, limit=1, timeout=20 * slowness()
        )
        return replies[0][name]

    return ask


def test_inspect_says_what_is_at_work_and_that_nothing_else_is_held(shared, working, control):
    later = frappe.enqueue_in(600, tasks.ping)
    [active] = control("active")
    assert (active["id"], active["name"], active["args"], active["type"]) == (
        working.message_id, "hold it", [working.kwargs], "frappe_jobs.execute",
    )  # fmt: skip
    assert control("query_task", ids=[working.message_id])[working.message_id][0] == "active"
    assert (control("reserved"), control("scheduled")) == ([], [])  # it waits in Redis
    assert "frappe_jobs.execute" in control("registered")
    queues = [queue["name"] for queue in control("active_queues")]
    assert queues == [f"{shared.id}:{name}" for name in ("short", "default", "long", "reports")]
    stats = control("stats")
    assert stats["pool"]["max-concurrency"] == len(stats["pool"]["processes"]) == 2
    before = stats["total"].get("count me", 0)
    frappe.enqueue(tasks.ping, job_name="count me").wait(20)
    assert control("stats")["total"]["count me"] == before + 1
    later.cancel()


def test_control_has_it_leave_a_queue_and_come_back(shared, working, control):
    queue = f"{shared.id}:reports"
    assert control("cancel_consumer", queue=queue) == {"ok": f"no longer consuming from {queue}"}
    job = frappe.enqueue(tasks.ping, "reports")
    assert frappe.enqueue(tasks.ping, "long").wait(20) == "pong"
    assert queue not in [one["name"] for one in control("active_queues")]
    assert job.get_status() == "queued"
    assert control("add_consumer", queue=queue) == {"ok": f"add consumer {queue}"}
    assert job.wait(20) == "pong"


def test_events_bear_the_jobs_name_and_neither_arguments_nor_results(shared, working, control):
    """What Flower and exporters count by."""
    seen, app = [], runtime.current().app
    control("enable_events")
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        capture = receiver.itercapture(timeout=30 * slowness(), wakeup=False)
        next(capture)  # it is told from here on
        said = frappe.enqueue(tasks.echo, job_name="says it", text="s3cret").message_id
        failed = frappe.enqueue(tasks.fail, job_name="fails").message_id
        late = frappe.enqueue(tasks.ping, expires=0.001).message_id
        ends = {said: "task-succeeded", failed: "task-failed", late: "task-revoked"}
        while not ends.items() <= {(one.get("uuid"), one["type"]) for one in seen}:
            next(capture)
        capture.close()
    control("disable_events")
    for message_id, end in ends.items():
        events = [one for one in seen if one.get("uuid") == message_id]
        assert [one["type"] for one in events] == ["task-received", "task-started", end]
        assert "s3cret" not in str(events)
    names = [one["name"] for one in seen if one["type"] == "task-received"]
    assert {"says it", "fails"} <= {*names}


def test_an_exporter_that_only_listens_counts_each_job_by_its_name(make_bench):
    """As celery-exporter reads them: it asks no worker for events, and knows a queue by none."""
    bench = make_bench()
    bench.use()
    app, counts, seconds = runtime.current().app, Counter(), []
    state = app.events.State()
    with bench.worker("--queue", "default", "--events"), app.connection_for_read() as connection:
        [ours] = runtime.current().broker.workers()

        def note(event):
            if event["hostname"] != ours.name:  # others are on its Redis
                return
            state.event(event)
            if not event["type"].startswith("task-"):
                return
            task = state.tasks[event["uuid"]]
            counts[task.name, event["type"], getattr(task, "queue", None), task.exception] += 1
            if event["type"] == "task-succeeded":
                seconds.append(task.runtime)

        receiver = app.events.Receiver(connection, handlers={"*": note})
        capture = receiver.itercapture(timeout=30 * slowness(), wakeup=False)
        next(capture)  # it listens from here on
        with frappe.site("site1"):
            for _ in range(2):
                frappe.enqueue(tasks.ping, job_name="ping it")
            frappe.enqueue(tasks.fail, job_name="fail it", text="no")
        ended = ("task-succeeded", "task-failed")
        while sum(number for key, number in counts.items() if key[1] in ended) < 3:
            next(capture)
        capture.close()
        [worker] = state.workers.values()
        assert worker.alive
    assert counts == {
        ("ping it", "task-received", None, None): 2,
        ("ping it", "task-started", None, None): 2,
        ("ping it", "task-succeeded", None, None): 2,
        ("fail it", "task-received", None, None): 1,
        ("fail it", "task-started", None, None): 1,
        ("fail it", "task-failed", None, "ValueError('no')"): 1,
    }
    assert len(seconds) == 2 and all(0 < one < 20 for one in seconds)


def test_a_teams_canvas_and_its_options_work_on_our_worker(shared, shared_worker):
    add = tasks.celery_add
    assert (add.s(1, 2) | add.s(4)).apply_async().get(timeout=20) == 7
    numbers = group(add.s(n, n) for n in range(3))
    assert numbers.apply_async().get(timeout=20) == [0, 2, 4]
    assert chord(numbers)(add.si(20, 3)).get(timeout=20) == 23
    first = add.apply_async((1, 1), link=add.s(10))
    assert first.get(timeout=20) == 2
    wait_until(lambda: first.children and first.children[0].ready(), 20)
    assert first.children[0].get(timeout=20) == 12
    late = add.apply_async((1, 1), expires=datetime.now(timezone.utc) - timedelta(seconds=1))
    wait_until(lambda: late.state == "REVOKED", 20)
