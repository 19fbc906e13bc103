"""The operator's commands over jobs, as people and scripts use them, on both brokers."""

from __future__ import annotations

import json
import time

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

COLUMNS = [
    "id", "name", "site", "queue", "method", "user", "status", "reason", "attempt",
    "enqueued_at", "started_at", "ended_at",
]  # fmt: skip


def rows(bench, *arguments):
    done = bench.run(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done, said, status=1):
    assert (done.returncode, done.stdout) == (status, ""), done.stdout
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(params=["redis", "rabbitmq"])
def idle(request, make_bench):
    """A bench on each broker, without a worker."""
    options = {}
    if request.param == "rabbitmq":
        options["celery_broker_url"] = request.getfixturevalue("amqp_url")
    bench = make_bench(**options)
    bench.use()
    return bench


class TestWithoutAWorker:
    def test_purge_takes_the_sites_jobs_of_queue_and_event_and_frees_their_ids(self, idle):
        for site in ("site1", "site2"):
            with frappe.site(site):
                for event in ("nightly", None):
                    for queue in ("short", "long"):
                        frappe.enqueue(
                            tasks.echo, queue, event=event, job_id=f"{queue} {event}",
                            deduplicate=True, tag=f"{site} {queue} {event}",
                        )  # fmt: skip
        arguments = ("--site", "site1", "purge-jobs", "--queue", "long", "--event", "nightly")
        asked = idle.run(*arguments, input="n\n")
        assert asked.returncode == 1 and "Remove 1 waiting jobs of site1?" in asked.stdout
        assert idle.run(*arguments, "--yes").stdout == "Purged 1 jobs.\n"
        assert idle.run(*arguments, "--yes").stdout == "Purged 0 jobs.\n"
        (row,) = rows(idle, "jobs", "list", "--status", "cancelled", "--site", "all")
        assert (row["id"], row["site"], row["reason"]) == ("long nightly", "site1", "purged")
        ready = idle.run("ready-for-migration", "--site", "site1")
        assert (ready.returncode, "3 jobs wait, 0 run" in ready.stdout) == (1, True)
        assert idle.run("purge-jobs", "--yes", "--site", "site1").stdout == "Purged 3 jobs.\n"
        ready = idle.run("ready-for-migration", "--site", "site1")
        assert (ready.returncode, ready.stdout[:6]) == (0, "READY ")
        assert idle.run("ready-for-migration", "--site", "all").returncode == 1
        with frappe.site("site1"):
            again = frappe.enqueue(
                tasks.echo, "long", job_id="long nightly", deduplicate=True, tag="again"
            )
        with idle.worker(), frappe.site("site1"):
            assert again.wait(20) == {"tag": "again"}
            wait_until(lambda: not frappe.get_jobs(), 20)
        tags = {mark["kwargs"]["tag"] for mark in idle.marks("echo")}
        everything = {f"site2 {q} {e}" for q in ("short", "long") for e in ("nightly", None)}
        assert tags == everything | {"again"}

    @pytest.mark.parametrize("how", ["cancel", "delete"])
    def test_a_job_taken_back_never_runs_even_when_its_record_is_gone(self, idle, how):
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.echo, tag=how)
            done = idle.run("jobs", how, job.id, "--site", "site1")
            assert done.returncode == 0 and job.id in done.stdout
            ledger = runtime.current().ledger
            ledger.redis.delete(ledger._key("record", job.message_id))  # its time is over
            behind = frappe.enqueue(tasks.ping)
            with idle.worker():
                assert behind.wait(20) == "pong"
        assert idle.marks("echo") == []

    def test_pending_jobs_are_counted_by_site_queue_and_method(self, idle):
        with frappe.site("site2"):
            for method in (tasks.ping, tasks.echo, tasks.ping):
                frappe.enqueue(method, "long")
        (row,) = rows(idle, "show-pending-jobs", "--site", "all")
        methods = {"acme.tasks.ping": 2, "acme.tasks.echo": 1}
        assert row == {"site": "site2", "queue": "long", "jobs": 3, "methods": methods}
        assert rows(idle, "--site", "site1", "show-pending-jobs") == []

    def test_ten_thousand_are_purged_in_seconds(self, bench):
        with frappe.site("site1"):
            frappe.enqueue_many({"method": tasks.ping} for _ in range(10_000))
        with frappe.site("site2"):
            frappe.enqueue(tasks.ping)
        began = time.monotonic()
        assert bench.run("--site", "site1", "purge-jobs", "--yes").stdout == "Purged 10000 jobs.\n"
        assert time.monotonic() - began < 20
        assert runtime.current().broker.depth("default") == 1

    @pytest.mark.parametrize(
        "command",
        [["jobs", "list"], ["jobs", "show", "x"], ["jobs", "wait", "x"], ["jobs", "cancel", "x"],
         ["show-pending-jobs"], ["purge-jobs"], ["ready-for-migration"]],
    )  # fmt: skip
    def test_a_broker_that_is_down_is_one_line_and_69(self, make_bench, command):
        bench = make_bench(redis_queue="redis://:s3cret@127.0.0.1:1/0")
        done = bench.run("--site", "site1", *command)
        refused(done, "redis://:***@127.0.0.1:1/0", 69)
        assert done.stderr.count("\n") == 1 and "s3cret" not in done.stderr


class TestWithAWorker:
    def test_the_list_is_the_sites_latest_first(self, shared):
        with frappe.site("site1"):
            for name in ("listed a", "listed b"):
                frappe.enqueue(tasks.fail, "reports", job_id=name).get_status()
                wait_until(lambda name=name: frappe.get_job_status(name) == "failed", 10)
            frappe.enqueue(tasks.ping, "reports", job_id="listed c").wait(10)
        with frappe.site("site2"):
            frappe.enqueue(tasks.ping, "reports").wait(10)
        found = rows(shared, "--site", "site1", "jobs", "list", "--queue", "reports")
        assert [row["id"] for row in found] == ["listed c", "listed b", "listed a"]
        assert [*found[0]] == COLUMNS
        assert found[1]["reason"] == "ValueError: on purpose" and found[1]["attempt"] == 1
        assert found[1]["started_at"] < found[1]["ended_at"] and "+00:00" in found[1]["ended_at"]
        arguments = ("jobs", "list", "--queue", "reports", "--status", "failed", "--limit", "1")
        assert [row["id"] for row in rows(shared, *arguments, "--site", "all")] == ["listed b"]
        table = shared.run("--site", "site1", *arguments).stdout.splitlines()
        assert table[0].startswith("ID") and len(table) == 2

    def test_show_tells_all_and_takes_a_message_id(self, shared):
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.fail, job_id="shown", text="line\nbreak")
            wait_until(lambda: job.get_status() == "failed", 10)
        for name in (job.id, job.message_id):
            (row,) = rows(shared, "--site", "site1", "jobs", "show", name)
            assert (row["id"], row["arguments"]) == ("shown", {"text": "line\nbreak"})
            assert "raise ValueError(text)" in row["traceback"]
        assert "raise ValueError" in shared.run("--site", "site1", "jobs", "show", "shown").stdout
        for command in ("show", "wait", "cancel", "retry", "delete"):
            done = shared.run("--site", "site2", "jobs", command, job.message_id)
            refused(done, f"No job '{job.message_id}' is known on site2.")
        assert len(shared.run("--site", "site1", "jobs", "list").stdout.splitlines()) > 1

    def test_wait_prints_the_result_or_says_why_not(self, shared):
        with frappe.site("site1"):
            frappe.enqueue(tasks.add, x=40, y=2, job_id="sum")
            frappe.enqueue(tasks.fail, job_id="no sum")
            slow = frappe.enqueue(tasks.sleep, seconds=60, job_id="slow")
        assert shared.run("--site", "site1", "jobs", "wait", "sum").stdout == "42\n"
        refused(shared.run("--site", "site1", "jobs", "wait", "no sum"), "ValueError: on purpose")
        done = shared.run("--site", "site1", "jobs", "wait", "slow", "--timeout", "0.1")
        refused(done, "still")
        wait_until(lambda: slow.get_status() == "started", 10)
        ready = shared.run("--site", "site1", "ready-for-migration")
        assert ready.returncode == 1 and "1 run" in ready.stdout
        assert shared.run("--site", "site1", "purge-jobs", "--yes").stdout == "Purged 0 jobs.\n"
        assert shared.run("--site", "site1", "jobs", "cancel", "slow").returncode == 0
        refused(shared.run("--site", "site1", "jobs", "cancel", "slow"), "slow (cancelled)")
        assert slow.get_status() == "cancelled"

    def test_failed_jobs_are_run_again(self, shared):
        with frappe.site("site2"):
            jobs = [frappe.enqueue(tasks.fail, "long", job_id=f"again {n}") for n in range(3)]
            for job in jobs:
                wait_until(lambda job=job: job.get_status() == "failed", 10)
            done = shared.run("--site", "site2", "jobs", "retry", "--failed", "--queue", "long")
            assert done.stdout.count("Queued again: again ") == 3
            wait_until(lambda: frappe.get_job_status("again 0") == "failed", 10)
            assert shared.run("--site", "site2", "jobs", "retry", "again 0").returncode == 0
        refused(shared.run("--site", "site2", "jobs", "retry"), "--failed", 2)
        refused(shared.run("--site", "site2", "jobs", "list", "--queue", "nope"), "'nope'", 2)
