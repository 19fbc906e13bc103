"""The main job, shown and checked: real work on every queue, in every way the docs describe.

Runs on a copy of this folder in .demo/, with the embedded server and real workers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from demo_pages import Pages
from demo_schedule import ByTheClock

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.cli.options import table
from frappe_jobs.deploy.processes import processes
from frappe_jobs.testing import wait_until

HERE = Path(__file__).parent
STAGE = HERE.parent.parent / ".demo"
SITE1, SITE2 = "site1.localhost", "site2.localhost"
COMMAND = [sys.executable, "-m", "frappe_jobs"]


@dataclass
class Step:
    """One thing that the docs show: how it is asked for, and what must become of it."""

    what: str
    ask: Callable[[], Any]
    expected: Any = None
    status: str = "finished"
    site: str = SITE1
    user: str = "grete@shop.test"
    answer: Any = field(default=None, init=False)
    #: How far its Background Task said that it was, while it ran.
    seen: set[float] = field(default_factory=set, init=False)

    @property
    def job(self) -> frappe.Job | None:
        return self.answer if isinstance(self.answer, frappe.Job) else None


def steps() -> list[Step]:
    from shop import tasks

    def after_commit() -> None:
        frappe.enqueue(tasks.pack, parcel="committed", enqueue_after_commit=True)
        frappe.db.commit()

    def after_rollback() -> None:
        frappe.enqueue(tasks.pack, parcel="rolled back", enqueue_after_commit=True)
        frappe.db.rollback()

    def document_method() -> frappe.Job:
        return frappe.enqueue(frappe.get_doc("Order", "ORD-2").send_invoice, to="Otto")

    def hold_queue() -> frappe.Job:
        job = frappe.enqueue(tasks.pack, "long", parcel="0", seconds=1)
        wait_until(lambda: job.get_status() == "started", 10)
        return job

    enqueue = frappe.enqueue
    return [
        Step("a function", lambda: enqueue(tasks.confirm_order, "short", order="ORD-1"),
             "Confirmed"),
        Step("a dotted path", lambda: enqueue("shop.tasks.count_stock", articles=["ink", "paper"]),
             {"ink": 3, "paper": 5}, site=SITE2, user="otto@shop.test"),
        Step("enqueue_doc", lambda: frappe.enqueue_doc("Order", "ORD-1", "send_invoice", "long"),
             "ORD-1: 100.00 EUR to Grete"),
        Step("a document's method", document_method, "ORD-2: 200.00 USD to Otto", site=SITE2,
             user="otto@shop.test"),
        Step("a queue of our own", lambda: enqueue(tasks.sales_report, "reports", orders=3), 3),
        Step("track_job", lambda: enqueue(tasks.sales_report, "reports", track_job=True, orders=6),
             6),
        Step("timeout=60", lambda: enqueue(tasks.pack, "long", timeout=60, parcel="vase"), "vase"),
        Step("job_name", lambda: enqueue(tasks.pack, "short", job_name="Pack a box", parcel="box"),
             "box"),
        Step("now=True", lambda: enqueue(tasks.pack, now=True, parcel="here"), "here", "direct"),
        Step("is_async=False", lambda: enqueue(tasks.pack, is_async=False, parcel="here too"),
             "here too", "direct"),
        Step("after a commit", after_commit, None, "nothing returned"),
        Step("after a rollback", after_rollback, None, "nothing returned"),
        Step("on_success", lambda: enqueue(tasks.pack, "short", on_success=tasks.tell_success,
                                           job_name="gift", parcel="gift"), "gift"),
        Step("a job that fails", lambda: enqueue(tasks.charge_card, on_failure=tasks.tell_failure,
                                                 job_name="card", order="ORD-3"),
             "ValueError: the card of ORD-3 was refused", "failed"),
        Step("one that times out", lambda: enqueue(tasks.wait_for_bank, "short", timeout=1,
                                                   seconds=60), "timed out after 1 s", "failed"),
        Step("an existing Celery task", lambda: enqueue(tasks.newsletter, "short", issue=7),
             "newsletter 7 sent", "Celery's"),
        # The queue is held by one job while three wait; the express one overtakes them.
        Step("… the queue is busy", hold_queue, "0"),
        *(Step(f"… and {number} waits", lambda number=number: enqueue(tasks.pack, "long",
                                                                      parcel=number), number)
          for number in "123"),
        Step("at_front", lambda: enqueue(tasks.pack, "long", at_front=True, parcel="express"),
             "express"),
    ]  # fmt: skip


@contextmanager
def stage(pages: Pages | None) -> Iterator[Path]:
    """A fresh bench with a server, filled sites and a worker for each queue.

    With pages it is left running.
    """
    bench, sites = STAGE, STAGE / "sites"
    stop_old(sites)
    shutil.rmtree(bench, ignore_errors=True)
    shutil.copytree(HERE, bench, ignore=shutil.ignore_patterns("__pycache__", "*.db*", ".frappe*"))
    if pages:
        pages.configure()
    os.environ["SITES_PATH"] = str(sites)
    os.environ["FRAPPE_REDIS_QUEUE"] = embedded.start(sites)
    workers: list[subprocess.Popen[str]] = []
    try:
        here = runtime.use(sites)
        workers += [start(process.command[1:], bench) for process in processes(here.settings)]
        note_pids(workers)
        for site in here.host.sites():
            with frappe.site(site):
                frappe.enqueue("shop.tasks.install", now=True)
        for worker, process in zip(workers, processes(here.settings), strict=True):
            wait_until(lambda log=log_of(process.command[-1]): "ready" in log.read_text(), 20)
            click.echo(f"  {process.name} is ready (process {worker.pid})")
        yield bench
    finally:
        if not pages:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(20)
            embedded.stop(sites)


def log_of(name: str) -> Path:
    return STAGE / f"{name}.log"


def start(command: tuple[str, ...], bench: Path) -> subprocess.Popen[str]:
    log = log_of("pages" if command[0] == "web" else command[-1]).open("w")
    return subprocess.Popen(
        [*COMMAND, *command], cwd=bench, stdout=log, stderr=log, text=True, start_new_session=True
    )


def note_pids(processes: list[subprocess.Popen[str]]) -> None:
    """For the next run, which ends them."""
    with (STAGE / "sites" / ".frappe_jobs" / "workers").open("a") as file:
        file.writelines(f"{process.pid}\n" for process in processes)


def start_pages() -> Path:
    """Their log; it has their address."""
    note_pids([start(("web", "--port", "0"), STAGE)])
    return log_of("pages")


def stop_old(sites: Path) -> None:
    """End what an earlier run with --keep left."""
    if embedded.running(sites) is None:
        return
    pids = [int(pid) for pid in (sites / ".frappe_jobs" / "workers").read_text().split()]
    for pid in filter(is_alive, pids):
        os.kill(pid, signal.SIGTERM)
    # Without their server they would go on waiting for it.
    wait_until(lambda: not any(map(is_alive, pids)), 30)
    embedded.stop(sites)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def run(found: list[Step]) -> None:
    for step in found:
        with frappe.site(step.site, user=step.user):
            step.answer = step.ask()
        if step.job and step.job.task_id:  # on a busy machine it would have ended unseen
            wait_until(lambda step=step: has_moved(step), 30)


def has_moved(step: Step) -> bool:
    """Whether its Background Task says how far it is, or that it has ended."""
    task = task_of(step)
    step.seen.add(task.progress)
    return bool(0 < task.progress < 100 or task.ended_at)


def watch(found: list[Step]) -> None:
    """Say how far the jobs are: one line that changes on a terminal, lines elsewhere."""
    jobs = {id(step): step for step in found if step.job}
    ended: set[int] = set()
    live = sys.stdout.isatty()
    deadline = time.monotonic() + 30
    while len(ended) < len(jobs) and time.monotonic() < deadline:
        running = []
        for key, step in jobs.items():
            if key in ended or step.job is None:
                continue
            status = step.job.get_status()
            if status in ("finished", "failed", "cancelled"):
                ended.add(key)
                if not live:
                    click.echo(f"  {status}: {step.what}")
            elif status == "started":
                if step.job.task_id:
                    step.seen.add(task_of(step).progress)
                progress = f" {step.job.progress:.0f} %" if step.job.progress else ""
                running.append(step.what + progress)
        if live:
            line = f"  {len(ended)} of {len(jobs)} ended; running: {', '.join(running) or '-'}"
            click.echo(f"\r\033[K{line[:100]}", nl=False)
        time.sleep(0.05)
    if live:
        click.echo()


def task_of(step: Step) -> Any:
    """The record of a tracked job, as its user sees it."""
    with frappe.site(step.site, user=step.user):
        return frappe.get_doc("Background Task", step.job and step.job.task_id)


def check_tracked(found: list[Step]) -> list[str]:
    """What their records said while they ran, and say now."""
    wrong = []
    for step in found:
        if step.job and step.job.task_id:
            task = task_of(step)
            facts = (task.status, task.result, task.progress, task.stage)
            seen = ", ".join(f"{progress:.0f} %" for progress in sorted(step.seen))
            click.echo(f"\n  The Background Task of {step.what}: {seen}; now {task.status}")
            if facts != ("Completed", str(step.expected), 100.0, "done"):
                wrong.append(f"the record of {step.what} says {facts}")
            if not any(0 < progress < 100 for progress in step.seen):
                wrong.append(f"nobody saw {step.what} make progress: {seen}")
    return wrong


def verdict(step: Step) -> tuple[str, str, str, bool]:
    """queue, status, duration, and whether all is as it must be."""
    if job := step.job:
        seen = job.reason if job.status == "failed" else job.result
        facts = (job.site, job.user, job.status, seen)
        took = (job.ended_at or 0) - (job.started_at or 0)
        good = facts == (step.site, step.user, step.status, step.expected)
        return job.queue, job.status, f"{took:.2f} s", good
    answer = step.answer.get(timeout=10) if hasattr(step.answer, "get") else step.answer
    return "-", step.status, "-", answer == step.expected


def check_traces(found: list[Step]) -> list[str]:
    """What the jobs must have left in the databases, and in what order they began."""
    wrong = []
    for site, count in ((SITE1, 14), (SITE2, 1)):
        with frappe.site(site):
            notes = [row["text"] for row in frappe.get_all("Note", fields=["text"])]
        for text in ("packed rolled back", "charged ORD-3"):
            if text in notes:
                wrong.append(f"{site}: {text!r} should have been rolled back")
        if len(notes) != count:
            wrong.append(f"{site} has {len(notes)} notes, not {count}: {notes}")
    order = {
        step.expected: step.job.started_at
        for step in found
        if step.job and step.job.queue == "long"
    }
    parcels = sorted(("0", "1", "2", "3", "express"), key=lambda name: order[name] or 0)
    if parcels != ["0", "express", "1", "2", "3"]:
        wrong.append(f"the express job did not overtake: {parcels}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="leave it running, and say how to use it"
    )
    keep = parser.parse_args().keep
    began = time.monotonic()

    def passed(what: str) -> None:
        click.secho(f"[{time.monotonic() - began:4.1f} s] {what}", bold=True)

    passed("start the embedded server, the sites and the workers")
    clock = ByTheClock()
    pages = Pages(STAGE / "sites") if keep else None
    with stage(pages):
        passed("migrate, and a scheduled job made in the database")
        clock.begin()
        passed("enqueue")
        found = steps()
        run(found)
        passed("the workers run it")
        watch(found)
        passed("the scheduler's jobs")
        clock.see()
        rows = []
        for step in found:
            *facts, good = verdict(step)
            rows.append([step.what, step.site, step.user, *facts, "yes" if good else "NO"])
        wrong = [*clock.wrong, *check_tracked(found), *check_traces(found)]
        click.echo()
        click.echo(table(rows, ("what", "site", "user", "queue", "status", "took", "as expected")))
        click.echo()
        wrong += [
            f"not as expected: {step.what}: {step.job.reason or step.job.result!r}" if step.job
            else f"not as expected: {step.what}"
            for step, row in zip(found, rows, strict=True) if row[-1] == "NO"
        ]  # fmt: skip
        for line in wrong:
            click.secho(line, fg="red")
        passed("stop what was started" if not keep else "left running, as you asked")
    if pages:
        pages.open(start_pages, SITE1)
        python = Path(sys.executable).parent
        click.echo(
            f"\nTalk to it:\n  cd {STAGE}\n  export PATH={python}:$PATH FRAPPE_JOBS_EMBEDDED=1\n"
            "  frappe-jobs queues\n  frappe-jobs --site all scheduled-jobs list\n"
            "  frappe-jobs enqueue shop.tasks.count_stock "
            '--kwargs \'{"articles": ["ink"]}\' --wait\n'
            "The next `make demo` stops it."
        )
    passed("all as expected" if not wrong else "NOT as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
