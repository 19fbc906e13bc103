"""Frappe's own enqueue_after_commit: jobs are rows of the transaction, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from random import Random
from threading import Event
from uuid import uuid4

import pytest
from frappe_bench.bench import ANSWER, OPENED, FrappeBench, Process, read_notes

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(120)

#: Begins a piece of code that looks into the outbox, and at what was sent.
LOOK = """
import os, signal, json
from frappe.utils import background_jobs as jobs
from frappe_jobs.frappe_bench.host.session import runtime
here = runtime()
def rows():
    return [json.loads(one[0])["header"] for one in
            frappe.db.sql("select message from `__frappe_jobs_outbox` where message like %s",
                          ("%" + MARK + "%",))]
def sent():
    return [one for one in jobs.get_queue("long").jobs if one.kwargs["kwargs"].get("text") == MARK]
def enqueue(method="probe.tasks.nothing", **options):
    options = {"queue": "long", "enqueue_after_commit": True, "text": MARK} | options
    return frappe.enqueue(method, **options)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def end():
    for one in sent():
        one.delete()
"""


def call(bench: FrappeBench, code: str) -> object:
    return bench.call(f"MARK = {uuid4().hex!r}\n{LOOK}{code}\nend()")


def die(bench: FrappeBench, code: str) -> None:
    """Run the code in a process that is killed."""
    script = OPENED.format(
        site=bench.site, user="Administrator", code=f"MARK = 'dead'\n{LOOK}{code}", answer=ANSWER
    )
    done = subprocess.run(
        [str(bench.python), "-c", script], cwd=bench.sites, env=bench.environment, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def test_it_is_a_row_of_the_transaction_and_is_sent_after_it(bench: FrappeBench) -> None:
    found = call(
        bench,
        "answer = []\n"
        "for end_it in (frappe.db.rollback, frappe.db.commit):\n"
        "    enqueue(); enqueue(); before = len(rows()), len(sent())\n"
        "    end_it(); answer.append([before, len(rows()), len(sent())])\n",
    )
    assert found == [[[0, 0], 0, 0], [[0, 0], 2, 2]]


def test_all_of_a_transaction_are_one_statement(bench: FrappeBench) -> None:
    found = call(
        bench,
        "enqueue(); frappe.db.commit()\n"
        "said, check = [], frappe.db.check_transaction_status\n"
        "def note(query, *more): said.append(query.split('(')[0].lower().strip()); "
        "return check(query, *more)\n"
        "frappe.db.check_transaction_status = note\n"
        "for _ in range(10): enqueue()\n"
        "here.host.require_current()\n"
        "frappe.db.commit()\n"
        "answer = [one.replace(chr(34), chr(96)) for one in said]",  # PostgreSQL's quotes
    )
    end = ["begin"] if bench.db_type == "sqlite" else ["commit", "start transaction"]
    assert found == ["insert into `__frappe_jobs_outbox`", *end]


def test_the_users_are_those_who_enqueued(bench: FrappeBench) -> None:
    found = call(
        bench,
        "frappe.set_user('Guest'); enqueue(); frappe.set_user('Administrator'); enqueue()\n"
        "frappe.db.commit()\nanswer = [one['user'] for one in rows()]",
    )
    assert sorted(found) == ["Administrator", "Guest"]  # type: ignore[call-overload]


def test_what_cannot_travel_is_said_before_anything_is_committed(bench: FrappeBench) -> None:
    found = call(
        bench,
        "todo = frappe.get_doc(dict(doctype='ToDo', description=MARK)).insert()\n"
        "enqueue(what=object())\n"
        "try: frappe.db.commit()\n"
        "except Exception as error: answer = [type(error).__name__]\n"
        "frappe.db.rollback()\nanswer.append(frappe.db.exists('ToDo', todo.name))",
    )
    assert found == ["JobNotSerializable", None]


def test_where_nothing_can_be_written_it_is_sent_as_before(bench: FrappeBench) -> None:
    found = call(
        bench,
        "frappe.flags.read_only = True; frappe.db.commit(); enqueue(); frappe.db.commit()\n"
        "frappe.flags.read_only = False; frappe.db.commit(); answer = [len(rows()), len(sent())]",
    )
    assert found == [0, 1]


def test_a_tracked_one_and_its_record_are_of_one_transaction(bench: FrappeBench) -> None:
    found = call(
        bench,
        "enqueue(track_job=True); frappe.db.commit(); frappe.db.rollback()\n"
        "[row] = rows()\n"
        "answer = [frappe.db.get_value('Background Task', row['task_id'], 'status'), len(sent())]",
    )
    assert found == ["Queued", 1]


def test_in_tests_is_async_false_waits_for_the_commit_as_well(bench: FrappeBench) -> None:
    found = call(
        bench,
        "frappe.in_test = frappe.flags.in_test = True\n"
        "enqueue('probe.tasks.write_todo', is_async=False)\n"
        "enqueue()\n"
        "answer = [frappe.db.count('ToDo', dict(description=MARK))]\nfrappe.db.commit()\n"
        "answer += [frappe.db.count('ToDo', dict(description=MARK)), len(sent())]",
    )
    assert found == [0, 1, 1]


def test_killed_after_the_commit_it_is_sent_by_a_worker(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    options = f"queue='short', path={str(notes)!r}"
    die(
        bench,
        f"enqueue('probe.tasks.write_todo', {options}, text='rolled back')\n"
        "frappe.db.before_commit.add(die)",
    )
    die(
        bench,
        "frappe.db.after_commit.add(die)\n"
        f"enqueue('probe.tasks.write_todo', {options}, text='committed')",
    )
    began = time.monotonic()
    wait_until(lambda: any("text" in one for one in read_notes(notes)), 20)
    assert time.monotonic() - began < 12
    assert [one["text"] for one in read_notes(notes) if "text" in one] == ["committed"]
    left = (
        "answer = frappe.db.sql('select count(*) from `__frappe_jobs_outbox` where message like "
        f"%s', ('%{notes.parent.name}%',))[0][0]"
    )
    wait_until(lambda: bench.call(left) == 0, 20)


#: Transactions that each write one row and enqueue one job; says of each that it begins.
WORK = """
import sys
for number in range(FIRST, LAST):
    sys.stdout.write(f"at {number}\\n"); sys.stdout.flush()
    frappe.get_doc(dict(doctype="ToDo", description=f"{MARK} {number}")).insert()
    if WHERE.get(number) == "behind the commit":
        frappe.db.after_commit.add(die)
    enqueue("probe.tasks.write_todo", queue="short", text=f"ran {MARK} {number}", path=NOTES)
    if WHERE.get(number) == "before the commit":
        frappe.db.before_commit.add(die)
    (frappe.db.rollback if number % 10 == 9 else frappe.db.commit)()
"""


@pytest.mark.timeout(1200)
def test_processes_killed_around_their_commits_lose_no_job(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    """1,000 transactions with CHAOS=full."""
    is_full = os.environ.get("CHAOS") == "full"
    transactions, deaths = (1_000, 20) if is_full else (40, 2)
    random, mark = Random(os.environ.get("CHAOS_SEED", "1")), uuid4().hex
    chosen = random.sample(range(transactions), 3 * deaths)
    where = dict.fromkeys(chosen[:deaths], "before the commit")
    where |= dict.fromkeys(chosen[deaths : 2 * deaths], "behind the commit")
    killed = {number: random.uniform(0, 0.02) for number in chosen[2 * deaths :]}
    at = 0
    while at < transactions:
        facts = f"MARK, FIRST, LAST, NOTES = {mark!r}, {at}, {transactions}, {str(notes)!r}\n"
        script = OPENED.format(
            site=bench.site, user="Administrator", answer=ANSWER,
            code=f"{facts}WHERE = {where!r}\n{LOOK}{WORK}",
        )  # fmt: skip
        with subprocess.Popen(
            [str(bench.python), "-c", script], cwd=bench.sites, env=bench.environment, text=True,
            stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            for line in process.stdout or ():
                if line.startswith("at "):
                    at = int(line.split()[1])
                    if at in killed:
                        Event().wait(killed[at])
                        process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
        at += 1
    names = "frappe.get_all('ToDo', dict(description=('like', '%s %%')), pluck='description')"
    committed = set(bench.call(f"answer = {names % mark}"))

    def ran() -> Counter[str]:
        return Counter(
            one["text"].removeprefix("ran ") for one in read_notes(notes) if "text" in one
        )

    wait_until(lambda: committed <= ran().keys(), 300)
    counted = ran()
    assert (
        {one for one, count in counted.items() if count > 1} == counted.keys() - committed == set()
    )
    print(f"{transactions} transactions, {len(committed)} committed, {3 * deaths} killed")
