"""A job that run_jobs runs here leaves behind what one does that a worker runs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from acme import once, tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.ledger.record import Record
from frappe_jobs.testing import clock, run_jobs

#: What differs from one run to the next.
ITS_OWN = {"worker", "started_at", "ended_at", "due", "looked_for"}
WHEN, USER = datetime(2026, 3, 1, 12, 30), "grete@acme.test"


def enqueue_all() -> dict[str, frappe.Job[Any] | None]:
    """One of each kind."""
    with frappe.site("site1", user=USER):
        tasks.install()
        for name in ("cash", "safe"):
            frappe.new_doc("Account", name=name, balance=1).insert()
    with frappe.site("site1", user=USER):
        account = frappe.get_doc("Account", "cash")
        jobs = {
            "echo": frappe.enqueue(tasks.echo, text="Größe", when=WHEN, many=[1, {"two": 2.5}]),
            "document": frappe.enqueue(tasks.echo, account=account, job_name="with a document"),
            "whoami": frappe.enqueue(tasks.whoami, "short", job_id="who"),
            "written": frappe.enqueue(account.deposit, amount=5),
            "rolled back": frappe.enqueue(tasks.deposit, account="safe", fail=True),
            "at once": frappe.enqueue(tasks.fail_first, retry=frappe.Retry(2, 0)),
            "not any more": frappe.enqueue(tasks.fail, retry=frappe.Retry(1, 0)),
            "gives up": frappe.enqueue(tasks.give_up, retry=frappe.Retry(3, 0)),
            "asks again": frappe.enqueue(tasks.succeed_at_last, attempts=2),
            "success": frappe.enqueue(tasks.add, x=1, on_success=tasks.on_success),
            "failure": frappe.enqueue(tasks.fail, on_failure=tasks.on_failure),
            "bad callback": frappe.enqueue(tasks.add, x=2, on_success=tasks.end_the_process),
            "hook objects": frappe.enqueue(tasks.echo, fail_before=True),
            "hook after": frappe.enqueue(tasks.return_it, what="end"),
            "no result": frappe.enqueue(tasks.return_it, what="object"),
            "refused text": frappe.enqueue(tasks.return_texts),
            "steers": frappe.enqueue(tasks.steer, how="ignore"),
            "exits": frappe.enqueue(tasks.steer, how="exit"),
            "interrupt": frappe.enqueue(tasks.raise_it, what="interrupt"),
            "mute": frappe.enqueue(tasks.raise_it, what="mute"),
            "further": frappe.enqueue(tasks.enqueue_further, rollback=False),
            "no further": frappe.enqueue(tasks.enqueue_further, rollback=True),
            "here": frappe.enqueue(tasks.enqueue_now),
            "other site": frappe.enqueue(tasks.reach_other, "long", site="site2"),
            "after commit": frappe.enqueue(tasks.fail_after_commit),
            "progress": frappe.enqueue(tasks.progress, stage="halfway"),
            "commits twice": frappe.enqueue(once.deposit_and_commit),
            "front": frappe.enqueue(tasks.ping, at_front=True),
            "tracked": frappe.enqueue(tasks.echo, track_job=True, said="tracked"),
            "twice": frappe.enqueue(tasks.echo, job_id="who", deduplicate=True),
        }  # fmt: skip
    return jobs


def seen(jobs: dict[str, Any]) -> dict[str, Any]:
    """What others can see of each of them."""
    here = runtime.current()
    ends = {}
    for name, job in jobs.items():
        if job is None:
            ends[name] = None
            continue
        record = here.ledger.read(job.message_id)
        assert isinstance(record, Record), name
        values = {key: value for key, value in vars(record).items() if key not in ITS_OWN}
        message = values.pop("message")
        values["result"] = plain(values["result"]).replace(job.id, "its id")
        values["attempts"] = [(one["attempt"], one["reason"]) for one in values["attempts"]]
        trace = (values.pop("traceback") or "").strip().splitlines()
        with frappe.site("site1"):
            kwargs = plain(job.kwargs)
        ends[name] = values | {"job": message.name, "trace": trace[-1:], "kwargs": kwargs}
    return ends


def plain(value: Any) -> str:
    return re.sub("0x[0-9a-f]+", "0x", repr(value))


def marks(bench: Any) -> list[dict[str, Any]]:
    own = {"at", "pid", "job", "message"}
    return [{key: plain(mark[key]) for key in mark.keys() - own} for mark in bench.marks()]


def rows() -> dict[str, Any]:
    with frappe.site("site1"):
        accounts = frappe.get_all("Account", fields=["name", "balance"], order_by="name")
        tracked = [
            {key: task[key] for key in ("status", "stage", "method", "queue", "user")}
            for task in frappe.get_recent_tasks()
        ]
    return {"accounts": accounts, "tasks": tracked}


@pytest.fixture(scope="module")
def both(make_bench: Any) -> dict[str, tuple[Any, Any, Any]]:
    """What the same jobs left behind, run by a worker of one process, and run here."""
    found = {}
    for how in ("worker", "inline"):
        bench = make_bench()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SITES_PATH", str(bench.sites))
            runtime.use(bench.sites)
            jobs = enqueue_all()
            if how == "inline":
                run_jobs(fail_fast=False)
                clock.move(seconds=5)  # a job that asks for it is run again a second later
                run_jobs(fail_fast=False)
                clock.reset()
            else:
                with bench.process("worker", "--burst") as worker:
                    assert worker.process.wait(60) == 0, worker.log
            found[how] = seen(jobs), marks(bench), rows()
    return found


def test_each_job_ends_alike(both):
    worker, inline = both["worker"][0], both["inline"][0]
    assert worker.keys() == inline.keys()
    assert {name: end for name, end in inline.items() if worker[name] != end} == {
        name: end for name, end in worker.items() if inline[name] != end
    }
    assert {end["status"] for end in inline.values() if end} == {"finished", "failed"}


def test_a_job_may_give_up_its_retries(both):
    end = both["worker"][0]["gives up"]
    reasons = [(1, "ValueError: 3 left"), (2, "ValueError: 2 left")]
    assert (end["status"], end["reason"]) == ("failed", "ValueError: 2 left")
    assert end["attempts"] in (reasons, reasons[:1])


def test_what_they_wrote_is_alike(both):
    assert both["inline"][2] == both["worker"][2]
    assert both["inline"][2]["accounts"][0] == {"name": "cash", "balance": 11}


def test_they_ran_in_the_same_order_between_the_same_hooks(both):
    def order(which: str) -> list[str]:
        begun = [mark["method"] for mark in both[which][1] if mark["what"] == "'before_job'"]
        return [*dict.fromkeys(begun)]  # a retry comes some time later

    assert order("inline") == order("worker")
    assert sorted(map(repr, both["inline"][1])) == sorted(map(repr, both["worker"][1]))
