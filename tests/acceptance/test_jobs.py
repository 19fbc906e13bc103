"""The operator's commands over jobs, as people and scripts use them, on both brokers."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

COLUMNS = [
    "id", "name", "site", "queue", "method", "user", "status", "reason", "attempt",
    "enqueued_at", "started_at", "ended_at", "due",
]  # fmt: skip


def rows(bench, *arguments):
    done = bench.run(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done, said, status=1):
    assert (done.returncode, done.stdout) == (status, ""), done.stdout
    assert said in done.stderr and "Traceback" not in done.stderr


def looked_at(bench, site, before):
    """What ``ready-for-migration`` says, after how many looks; ``before(n)`` precedes look n."""
    index, looks = bench.use().ledger._key("open", site), 0
    with redis.Redis.from_url(bench.redis_url) as server, server.monitor() as monitor:
        before(1)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(bench.run, "--site", site, "ready-for-migration")
            run.add_done_callback(lambda _: server.echo(f"{index} is over"))
            for command in monitor.listen():
                if command["command"] == f"ECHO {index} is over":
                    break
                if command["command"] == f"ZCARD {index}":
                    looks += 1
                    before(looks + 1)
        return run.result().stdout.partition(":")[0], looks


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
    def test_purge_takes_the_sites_waiting_jobs_of_queue_and_event(self, bench):
        for site in ("site1", "site2"):
            with frappe.site(site):
                for event in ("nightly", None):
                    for queue in ("short", "long"):
                        frappe.enqueue(tasks.echo, queue, event=event, job_id=f"{queue} {event}")
        arguments = ("--site", "site1", "purge-jobs", "--queue", "long", "--event", "nightly")
        asked = bench.run(*arguments, input="n\n")
        assert asked.returncode == 1 and "Remove 1 waiting jobs of site1?" in asked.stdout
        assert frappe.get_job("long nightly", "site1").status == "queued"
        assert bench.run(*arguments, input="y\n").stdout.endswith("Purged 1 jobs.\n")
        (row,) = rows(bench, "jobs", "list", "--status", "cancelled", "--site", "all")
        assert (row["id"], row["site"], row["reason"]) == ("long nightly", "site1", "purged")
        ready = bench.run("ready-for-migration", "--site", "all")
        assert ready.returncode == 1
        assert "site1 has background jobs: 3 wait, 0 run" in ready.stdout
        assert "site2 has background jobs: 4 wait, 0 run" in ready.stdout
        assert bench.run("purge-jobs", "--yes", "--site", "site1").stdout == "Purged 3 jobs.\n"
        ready = bench.run("ready-for-migration", "--site", "site1")
        assert (ready.returncode, ready.stdout[:6]) == (0, "READY ")
        assert len(frappe.get_jobs()["site2"]) == 4

    @pytest.mark.parametrize(
        ("at_look", "said", "looks"),
        # what is queued on a busy machine before the second may come after it
        [(None, "READY", {3}), (1, "NOT READY", {1}), (2, "NOT READY", {2, 3})],
    )
    def test_a_site_is_ready_only_if_three_looks_find_no_job(self, bench, at_look, said, looks):
        """A scheduler may queue some until it knows of the site's maintenance mode."""

        def enqueue_before(look):
            if look == at_look:
                with frappe.site("site1"):
                    frappe.enqueue(tasks.echo)

        with frappe.site("site1"):
            frappe.get_jobs()  # what the first use of a site takes is over
        began = time.monotonic()
        done, count = looked_at(bench, "site1", enqueue_before)
        assert done == f"{said} for migration" and count in looks
        assert time.monotonic() - began >= count - 1, "a second between two looks"

    def test_what_was_taken_back_never_runs_though_its_record_is_gone(self, idle):
        with frappe.site("site1"):
            for what in ("purge", "cancel", "delete"):
                frappe.enqueue(tasks.echo, job_id=what, deduplicate=True, tag=what)
                how = ["purge-jobs", "--yes"] if what == "purge" else ["jobs", what, what]
                done = idle.run("--site", "site1", *how)
                assert done.returncode == 0, done.stderr
            ledger = runtime.current().ledger
            for key in ledger.redis.keys(f"{ledger._key('record')}*"):
                ledger.redis.delete(key)  # its time is over
            again = frappe.enqueue(tasks.echo, job_id="purge", deduplicate=True, tag="again")
            with idle.worker():
                assert again.wait(20) == {"tag": "again"}
                assert frappe.enqueue(tasks.ping).wait(20) == "pong"
        assert [mark["kwargs"] for mark in idle.marks("echo")] == [{"tag": "again"}]

    def test_pending_jobs_are_counted_by_site_queue_and_method(self, bench):
        with frappe.site("site2"):
            for method in (tasks.ping, tasks.echo, tasks.ping):
                frappe.enqueue(method, "long")
        (row,) = rows(bench, "show-pending-jobs", "--site", "all")
        methods = {"acme.tasks.ping": 2, "acme.tasks.echo": 1}
        assert row == {"site": "site2", "queue": "long", "jobs": 3, "methods": methods}
        assert rows(bench, "--site", "site1", "show-pending-jobs") == []
        table = bench.run("--site", "site2", "show-pending-jobs").stdout
        assert "2 acme.tasks.ping, 1 acme.tasks.echo" in table

    def test_ten_thousand_are_purged_in_seconds(self, bench):
        with frappe.site("site1"):
            frappe.enqueue_many({"method": tasks.ping} for _ in range(10_000))
        with frappe.site("site2"):
            frappe.enqueue(tasks.ping)
        began = time.monotonic()
        assert bench.run("--site", "site1", "purge-jobs", "--yes").stdout == "Purged 10000 jobs.\n"
        assert time.monotonic() - began < 20
        assert runtime.current().broker.depth("default") == 1

    def test_filters_choose_the_jobs_that_are_cancelled_and_deleted(self, idle):
        for site in ("site1", "site2"):
            with frappe.site(site, "anna"):
                frappe.enqueue_many({"method": tasks.ping} for _ in range(3))
            with frappe.site(site):
                frappe.enqueue(tasks.echo, job_id="other")
        command = ("--site", "site1", "jobs", "cancel", "--user", "anna")
        counted = idle.run(*command, "--dry-run")
        assert counted.stdout.splitlines()[1:] == ["site1  queued  default  acme.tasks.ping  3"]
        asked = idle.run(*command, input="n\n")
        assert asked.returncode == 1 and "Cancel these 3 jobs? [y/N]:" in asked.stdout
        assert len(rows(idle, "jobs", "list", "--status", "queued", "--site", "all")) == 8
        done = idle.run(*command, "--yes").stdout.splitlines()
        assert done[0] == "Cancelled: 3 jobs."
        stay = "3 messages stay with the broker until a worker gets and drops them."
        assert done[1:] == ([] if runtime.current().broker.is_searchable else [stay])
        assert idle.run(*command, "--yes").stdout == "No queued or started jobs.\n"
        deleted = idle.run("--site", "site1", "jobs", "delete", "--until", "0s", input="y\n")
        assert deleted.stdout.endswith("Deleted: 3 jobs.\n")
        listed = rows(idle, "jobs", "list", "--site", "all")
        assert [row["site"] for row in listed].count("site1") == 1 and len(listed) == 5

    def test_a_list_goes_on_with_its_cursor(self, bench):
        with frappe.site("site1"):
            frappe.enqueue_many({"method": tasks.echo, "number": number} for number in range(5))
        command = ("--site", "site1", "jobs", "list", "--limit", "3", "--format", "json")
        first = bench.run(*command)
        cursor = first.stderr.removeprefix("There are more; to go on: --cursor ").strip()
        second = bench.run(*command, "--cursor", cursor)
        assert [len(json.loads(one.stdout)) for one in (first, second)] == [3, 2]
        assert second.stderr == ""
        refused(bench.run(*command, "--cursor", cursor[2:]), "is no cursor of this search", 1)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["cancel"], "Give either the jobs' ids, or filters: --status"),
            (["delete", "x", "--user", "anna"], "Give either the jobs' ids, or filters: --status"),
            (["retry", "x", "--failed"], "Give either the jobs' ids, or filters: --status"),
            (["list", "--since", "soon"], "soon"),
            (["list", "--queue", "nowhere"], "there is no queue 'nowhere'"),
        ],
    )
    def test_wrong_filters_are_said(self, bench, arguments, said):
        refused(bench.run("--site", "site1", "jobs", *arguments), said, 2)

    def test_an_error_without_a_word_is_said(self, bench):
        done = bench.run("--site", "site1", "jobs", "list", "--error", "!?")
        refused(done, "'error' must have 1 to 8 words; not '!?'.")

    @pytest.mark.parametrize(
        "command",
        [["jobs", "list"], ["purge-jobs"]],
    )
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
        listed = rows(shared, "--site", "site1", "jobs", "list", "--queue", "reports")
        # Other files' tests have used that queue before.
        found = [row for row in listed if row["id"].startswith("listed")]
        assert [row["id"] for row in found] == ["listed c", "listed b", "listed a"]
        assert [*found[0]] == COLUMNS
        assert found[1]["reason"] == "ValueError: on purpose" and found[1]["attempt"] == 1
        assert found[1]["started_at"] < found[1]["ended_at"] and "+00:00" in found[1]["ended_at"]
        arguments = ("jobs", "list", "--queue", "reports", "--status", "failed", "--limit", "1")
        assert [row["id"] for row in rows(shared, *arguments, "--site", "all")] == ["listed b"]

    def test_show_tells_all_and_takes_a_message_id(self, shared):
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.fail, job_id="shown", text="line\nbreak")
            wait_until(lambda: job.get_status() == "failed", 10)
        (row,) = rows(shared, "--site", "site1", "jobs", "show", job.message_id)
        assert (row["id"], row["arguments"]) == ("shown", {"text": "line\nbreak"})
        assert "raise ValueError(text)" in row["traceback"]
        shown = shared.run("--site", "site1", "jobs", "show", "shown").stdout
        assert "raise ValueError(text)" in shown and '{"text": "line\\nbreak"}' in shown
        for command in ("show", "delete"):
            done = shared.run("--site", "site2", "jobs", command, job.message_id)
            refused(done, f"No job '{job.message_id}' is known on site2.")
        assert frappe.get_job("shown", "site1").status == "failed"

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
        # what runs stays, so nothing is asked
        assert shared.run("--site", "site1", "purge-jobs").stdout == "Purged 0 jobs.\n"
        done = shared.run("--site", "site1", "jobs", "cancel", "slow", "no sum")
        assert (done.returncode, done.stdout) == (1, "Cancelled: slow\n")
        assert "too late to cancel no sum (failed)" in done.stderr
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
        refused(shared.run("--site", "site2", "jobs", "retry"), "Give either the jobs' ids", 2)
