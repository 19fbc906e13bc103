"""Processes killed around their commits: what a transaction enqueued runs once, if it committed

Some are killed by chance, some kill themselves between the rows of the outbox and the commit, or
between the commit and the send, or the message and the note that all is sent.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
import warm
from acme import tasks
from chaos.crew import Crew, kill
from contract.conftest import Server
from sqlalchemy import text

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(3600)

#: Transactions that each write one row and enqueue one job; says of each that it begins.
ENQUEUE = """
import json, os, signal, sys
from celery.signals import after_task_publish
from sqlalchemy import event
import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

first, last, where_of = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
waiting = runtime.current().ledger.waiting
for number in range(first, last):
    wait_until(lambda: waiting("default") < 20, 120)  # else a job's delay were the workers'
    where = where_of.get(str(number))
    print(number, flush=True)
    with frappe.site("site1") as session:
        frappe.new_doc("Account", name=str(number), balance=0).insert()
        if where == "behind the commit":
            session.after_commit(die)
        if where == "behind the message":
            after_task_publish.connect(die)
        frappe.enqueue("acme.tasks.run", number=number, enqueue_after_commit=True)
        if where == "before the commit":
            event.listen(frappe.db, "before_commit", die)
        if number % 10 == 9:
            frappe.db.rollback()
"""
WHERE = ("before the commit", "behind the commit", "behind the message")
#: Of each database so many processes at a time.
PROCESSES = 3


@pytest.fixture
def broker(pair: Any) -> str:
    return str(pair[1])


@pytest.fixture
def accounts(scene: Any, database: Server) -> Callable[[], set[int]]:
    """The numbers of the transactions that have committed."""
    scene.bench.write("site1/site_config.json", database.config("site1"))
    with frappe.site("site1"):
        tasks.install()

    def committed() -> set[int]:
        with frappe.site("site1") as session:
            return {int(name) for name in session.db.scalars(text("SELECT name FROM account"))}

    return committed


class Enqueuer(Thread):
    """A process that works through these transactions; replaced by another one when it is dead."""

    def __init__(
        self, bench: Any, numbers: range, where: dict[int, str], killed: dict[int, float]
    ) -> None:
        super().__init__(daemon=True)
        self._bench, self._numbers = bench, numbers
        self._where, self._killed = where, killed
        #: When the process died that had begun with that transaction, by its number.
        self.died: dict[int, float] = {}

    def run(self) -> None:
        at = self._numbers.start
        while at < self._numbers.stop:
            last = self._run_from(at)
            if last + 1 < self._numbers.stop or last in self._where or last in self._killed:
                self.died[last] = time.time()
            at = last + 1

    def _run_from(self, first: int) -> int:
        reading, writing = os.pipe()
        where = {number: what for number, what in self._where.items() if number in self._numbers}
        process = self._bench.start(
            [ENQUEUE, str(first), str(self._numbers.stop), json.dumps(where)], self._bench.path,
            self._bench.environment, 0, writing, 2, module=warm.CODE,
        )  # fmt: skip
        os.close(writing)
        last = first - 1
        with os.fdopen(reading) as said:
            for line in said:
                last = int(line)
                if last in self._killed:
                    Event().wait(self._killed[last])
                    kill(process.pid)
        assert process.wait(60) in (0, -signal.SIGKILL)
        assert last >= first, "it did not begin"
        return last


def test_what_committed_runs_once_and_nothing_else_does(
    scene: Any,
    accounts: Callable[[], set[int]],
    pair: Any,
    random: Any,
    size: Callable[..., Any],
    found: Any,
) -> None:
    transactions, deaths, kills = size((10_000, 200, 200), (90, 2, 6))
    numbers = range(transactions)
    chosen = random.sample(numbers, len(WHERE) * deaths + kills)
    where = {number: WHERE[place % len(WHERE)] for place, number in enumerate(chosen[kills:])}
    killed = {number: random.uniform(0, 0.02) for number in chosen[:kills]}
    share = transactions // PROCESSES
    began = time.monotonic()
    with Crew(scene.bench, "--concurrency", "2", "--quiet", size=1):
        parts = [range(n * share, (n + 1) * share) for n in range(PROCESSES - 1)]
        parts.append(range((PROCESSES - 1) * share, transactions))
        working = [Enqueuer(scene.bench, part, where, killed) for part in parts]
        for one in working:
            one.start()
        for one in working:
            one.join()
        committed = accounts()
        wait_until(lambda: committed <= {one["number"] for one in scene.runs.begins()}, 60)
        scene.wait_for_all(60)
    ran = Counter(one["number"] for one in scene.runs.begins())
    began_at = {one["number"]: one["at"] for one in scene.runs.begins()}
    died = {number: at for one in working for number, at in one.died.items()}
    rescued = [began_at[number] - at for number, at in died.items() if number in ran]
    left = runtime.current().ledger.redis.zcard(runtime.current().ledger._key("outbox"))
    lost, ghosts = committed - ran.keys(), ran.keys() - committed
    twice = [number for number, count in ran.items() if count > 1]
    found(
        f"{pair[0]}: {transactions:,} transactions, {len(died)} processes killed, "
        f"{len(committed):,} committed: {len(lost)} of them not run, {len(ghosts)} run and not "
        f"committed, {len(twice)} run twice; a job of a dead process began "
        f"{max(rescued, default=0):.1f} s after its death at the latest; {left} notes left; "
        f"{time.monotonic() - began:.0f} s"
    )
    assert (lost, ghosts, twice) == (set(), set(), [])
    assert max(rescued, default=0) <= 10
