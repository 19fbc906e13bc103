"""Tracked jobs on a bench: Frappe's own enqueue, with a Background Task on the site."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from frappe_bench.bench import WAIT, FrappeBench, Process, read_notes
from frappe_bench.test_desk import DESK

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(180)

FIELDS = (
    "status progress stage result exception task_name user method queue ref_doctype ref_docname"
)
#: Begins a piece of code that looks at records.
LOOK = (
    WAIT + "from frappe_jobs.frappe_jobs.doctype.background_task import background_task as page\n"
    f"def row(name):\n    return frappe.db.get_value('Background Task', name, {FIELDS.split()}, "
    "as_dict=True)\n"
    "def doc(name):\n    return frappe.get_doc('Background Task', name)\n"
    "def refused(call, *args, **more):\n"
    "    try:\n        call(*args, **more)\n"
    "    except Exception as error:\n        return type(error).__name__\n"
)
#: What this run's jobs write.
MARK = uuid4().hex
OWNER, OTHER = "grete@probe.test", "otto@probe.test"


def track(bench: FrappeBench, call: str, user: str = "Administrator") -> str:
    """The name of the record of what is enqueued so and committed."""
    code = f"job = frappe.enqueue({call}, track_job=True, queue='short')\nanswer = job.task_id"
    return str(bench.call(code, user=user))


def reaches(bench: FrappeBench, task: str, *states: str) -> dict[str, Any]:
    """The record, once it says one of these."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = bench.call(LOOK + f"answer = row({task!r})")
        return found if found["status"] in states else None

    found = wait_until(look, 30)
    assert found
    return found


def pids(notes: Path) -> list[int]:
    """Of the processes in which the job has written, and waits."""
    return [one["pid"] for one in read_notes(notes) if "pid" in one]


@pytest.fixture(scope="module")
def people(_bench: FrappeBench) -> Iterator[None]:
    code = (
        f"for one in {[OWNER, OTHER]!r}:\n    if not frappe.db.exists('User', one):\n"
        "        frappe.get_doc(dict(doctype='User', email=one, first_name='x', "
        "send_welcome_email=0)).insert()\n    frappe.get_doc('User', one).add_roles('Desk User')"
    )
    _bench.call(code)
    yield


def test_a_record_follows_its_job(bench: FrappeBench, worker: Process, notes: Path) -> None:
    task = track(bench, f"'probe.tasks.report_and_wait', text={MARK!r}, path={str(notes)!r}")
    wait_until(lambda: pids(notes), 20)
    during = bench.call(
        LOOK + f"answer = [row({task!r}), doc({task!r}).as_dict(), "
        f"frappe.db.count('ToDo', dict(description={MARK!r}))]"
    )
    assert [during[1][name] for name in ("status", "progress", "stage")] == [
        "Running", 40, "order 4"
    ]  # fmt: skip
    assert during[0]["progress"] == 40 and during[0]["ref_doctype"] == "User"
    assert during[2] == 0, "the job's own transaction is as open as before"
    notes.write_text(notes.read_text() + '"go on"\n')
    after = reaches(bench, task, "Completed", "Failed")
    assert after | {"exception": None} == {
        "status": "Completed", "progress": 100, "stage": "order 4", "exception": None,
        "result": '{"imported": "%s"}' % MARK, "task_name": "probe.tasks.report_and_wait",
        "user": "Administrator", "method": "probe.tasks.report_and_wait", "queue": "short",
        "ref_doctype": "User", "ref_docname": "Guest",
    }  # fmt: skip


def test_the_record_is_of_the_transaction_that_is_open(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        LOOK + "job = frappe.enqueue('probe.tasks.look', track_job=True)\n"
        "name = job.task_id\n"
        "answer = [row(name).status]\nfrappe.db.rollback()\nanswer.append(row(name))\n"
        "answer.append(frappe.utils.background_jobs.Job.exists(job.id))"
    )
    assert found == ["Queued", None, False]


def test_after_the_commit_its_record_is_committed_before_it_is_sent(
    bench: FrappeBench, worker: Process
) -> None:
    found = bench.call(
        LOOK + "frappe.enqueue('probe.tasks.look', job_id='after-commit', track_job=True, "
        "enqueue_after_commit=True)\nfrappe.db.commit(); frappe.db.rollback()\n"
        "names = frappe.get_all('Background Task', dict(job_id='after-commit'), pluck='name', "
        "order_by='creation desc')\nend = time.time() + 20\n"
        "while row(names[0]).status != 'Completed' and time.time() < end:\n"
        "    time.sleep(0.05); frappe.db.rollback()\nanswer = row(names[0]).status"
    )
    assert found == "Completed"


def test_a_documents_method_is_tracked_with_its_document(
    bench: FrappeBench, worker: Process
) -> None:
    task = bench.call(
        "answer = frappe.enqueue_doc('User', 'Guest', 'get_fullname', track_job=True).task_id"
    )
    found = reaches(bench, task, "Completed", "Failed")
    assert [found["ref_doctype"], found["ref_docname"]] == ["User", "Guest"], found
    assert found["status"] == "Completed", found


def test_a_method_with_such_a_parameter_gets_it(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        WAIT + "job = frappe.enqueue('probe.tasks.track', track_job=1)\n"
        "answer = [wait(job).result, frappe.db.exists('Background Task', job.task_id)]"
    )
    assert found == [{"track_job": 1}, None]


def test_what_fails_says_why_and_runs_again(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    task = track(bench, f"'probe.tasks.fail_once', file={str(notes)!r}")
    failed = reaches(bench, task, "Failed", "Completed")
    assert failed["status"] == "Failed" and "ValueError: not yet" in failed["exception"]
    again = bench.call(LOOK + f"answer = [page.run_again({task!r}), row({task!r})]")
    assert again[0] == task and again[1]["status"] == "Queued" and not again[1]["exception"]
    done = reaches(bench, task, "Completed", "Failed")
    assert [done["status"], done["result"]] == ["Completed", '"now"']
    assert bench.call(LOOK + f"answer = refused(page.run_again, {task!r})") == "JobError"


def test_its_user_cancels_it_and_nobody_else(
    bench: FrappeBench, worker: Process, notes: Path, people: None
) -> None:
    call = f"'probe.tasks.report_and_wait', text='cancelled {MARK}', path={str(notes)!r}"
    task = track(bench, call, OWNER)
    wait_until(lambda: pids(notes), 20)
    seen = "[frappe.get_list('Background Task', dict(name={0!r}), pluck='name'), "
    seen += "refused(page.cancel, {0!r}), refused(frappe.delete_doc, 'Background Task', {0!r})]"
    seen = seen.format(task)
    assert bench.call(LOOK + f"answer = {seen}", user=OTHER)[:2] == [[], "PermissionError"]
    found = bench.call(
        LOOK + f"answer = [frappe.get_list('Background Task', dict(name={task!r}), pluck='name'), "
        f"page.cancel({task!r}), doc({task!r}).status]",
        user=OWNER,
    )
    assert found == [[task], True, "Cancelled"]
    assert reaches(bench, task, "Cancelled")["status"] == "Cancelled"
    assert (
        bench.call(f"answer = frappe.db.count('ToDo', dict(description='cancelled {MARK}'))") == 0
    )


def test_a_refusal_is_no_error_of_the_servers(bench: FrappeBench, people: None) -> None:
    """Over HTTP; a System Manager may see it, and neither cancel it nor run it again."""
    found = bench.call(
        DESK + LOOK + f"frappe.set_user({OWNER!r})\n"
        "job = frappe.enqueue('probe.tasks.nothing', queue='long', track_job=True)\n"
        "frappe.set_user('Administrator')\nfrappe.db.commit(); name = job.task_id\n"
        f"frappe.get_doc('User', {OTHER!r}).add_roles('System Manager')\n"
        "page = 'frappe_jobs.frappe_jobs.doctype.background_task.background_task.'\n"
        "def status(method):\n    said = ask(page + method, name=name)\n"
        "    told = bool(said.get('_server_messages'))\n"
        "    return [said.get('status'), said.get('exc_type'), told]\n"
        f"own = dict(token); token.update(key_of({OTHER!r}))\n"
        "answer = [status('cancel'), status('run_again')]\n"
        "token.update(own); answer.append(status('run_again'))\n"
        f"frappe.get_doc('User', {OTHER!r}).remove_roles('System Manager')\n"
        "answer.append(doc(name).cancel())"
    )
    refused = [403, "PermissionError", True]
    assert found == [refused, refused, [417, "JobError", True], True]


def test_a_waiting_one_is_cancelled_and_never_runs(bench: FrappeBench, notes: Path) -> None:
    """Nobody serves the queue long here."""
    found = bench.call(
        LOOK + "job = frappe.enqueue('probe.tasks.write_todo', text='x', queue='long', "
        f"path={str(notes)!r}, track_job=True)\nfrappe.db.commit(); name = job.task_id\n"
        "answer = [doc(name).status, refused(frappe.delete_doc, 'Background Task', name)]\n"
        "frappe.db.rollback(); answer += [page.cancel(name), page.cancel(name)]\n"
        "frappe.db.rollback(); answer.append(row(name).status)\n"
        "frappe.delete_doc('Background Task', name); answer.append(row(name))"
    )
    assert found == ["Queued", "ValidationError", True, False, "Cancelled", None]


def test_nobody_writes_a_record_by_hand(bench: FrappeBench, people: None) -> None:
    """Its header says as whom it runs again; and a browser sends what it likes."""
    found = bench.call(
        LOOK + "job = frappe.enqueue('probe.tasks.nothing', queue='long', track_job=True)\n"
        "frappe.db.commit(); name = job.task_id; page.cancel(name); frappe.db.rollback()\n"
        f"frappe.get_doc('User', {OTHER!r}).add_roles('System Manager')\nfrappe.db.commit()\n"
        f"frappe.set_user({OTHER!r})\n"
        "import json\nfrom frappe import client, handler\n"
        "forged = json.dumps({**doc(name).as_dict(), 'user': frappe.session.user}, default=str)\n"
        "answer = [refused(client.set_value, 'Background Task', name, 'user', frappe.session.user),"
        " refused(client.insert, forged), refused(client.save, forged),"
        " refused(handler.run_doc_method, 'run_again', docs=forged),"
        " refused(handler.run_doc_method, 'cancel', docs=forged),"
        " refused(page.run_again, name), row(name).status]\n"
        "frappe.set_user('Administrator')\n"
        "answer.append(refused(client.set_value, 'Background Task', name, 'user', 'Guest'))\n"
        f"frappe.get_doc('User', {OTHER!r}).remove_roles('System Manager')\nfrappe.db.commit()"
    )
    assert all(found[:3]) and found[3:6] == ["PermissionError"] * 3, found
    assert found[6:] == ["Cancelled", "ValidationError"]


def test_a_job_whose_process_is_killed_ends_as_failed(bench: FrappeBench, notes: Path) -> None:
    with bench.process("worker", "--queue", "long") as process:
        code = (
            f"frappe.enqueue('probe.tasks.report_and_wait', text='killed {MARK}', "
            f"path={str(notes)!r}, "
            "queue='long', track_job=True).task_id"
        )
        task = bench.call(f"answer = {code}")
        for count in range(1, 4):  # so many starts has a job
            wait_until(lambda count=count: len(pids(notes)) == count, 40)
            os.kill(pids(notes)[-1], signal.SIGKILL)
            if bench.call(LOOK + f"answer = row({task!r})['status']") == "Failed":
                break
        found = reaches(bench, task, "Failed")
        assert process.process.poll() is None
    assert "died" in found["exception"]
    assert bench.call(f"answer = frappe.db.count('ToDo', dict(description='killed {MARK}'))") == 0


def test_its_page_in_the_desk(bench: FrappeBench) -> None:
    """Over HTTP, as the browser asks."""
    found = bench.call(
        DESK + "name = frappe.enqueue('probe.tasks.nothing', queue='long', track_job=True, "
        "job_name='Import').task_id\nfrappe.db.commit()\n"
        "page = 'frappe_jobs.frappe_jobs.doctype.background_task.background_task.'\n"
        "def shown():\n    reply = ask('frappe.desk.form.load.getdoc', doctype='Background Task', "
        "name=name)\n    return reply['docs'][0]['status']\n"
        "rows = ask('frappe.desk.reportview.get_list', doctype='Background Task', start='0', "
        "fields=['name', 'task_name', 'status', 'progress'], page_length='20', "
        "filters=[['Background Task', 'name', '=', name]])['message']\n"
        "answer = [[one['task_name'], one['status'], one['progress']] for one in rows]\n"
        "answer += [shown(), ask(page + 'cancel', name=name)['message'], shown()]\n"
        "answer += [ask(page + 'run_again', name=name)['message'] == name, shown()]\n"
        "answer.append(ask(page + 'run_again', name=name).get('exc_type'))\n"
        "ask(page + 'cancel', name=name)\n"
        "meta = ask('frappe.desk.form.load.getdoctype', doctype='Background Task')['docs'][0]\n"
        "answer.append('Run Again' in meta['__js'] or 'Retry Task' in meta['__js'])"
    )
    assert found == [
        ["Import", "Queued", 0], "Queued", True, "Cancelled", True, "Queued", "JobError", True,
    ]  # fmt: skip


def test_what_is_old_is_cleared_and_what_was_lost_ends(bench: FrappeBench) -> None:
    found = bench.call(
        LOOK + "from frappe_jobs.frappe_bench.host.session import runtime\n"
        "import frappe_jobs\nnames = []\n"
        "for number in range(3):\n    job = frappe.enqueue('probe.tasks.nothing', queue='long', "
        "track_job=True)\n    frappe.db.commit(); names.append(job.task_id)\n"
        "    if number < 2:\n        page.cancel(job.task_id); frappe.db.rollback()\n"
        "recent = [one['task_id'] for one in frappe_jobs.get_recent_tasks(limit=3)]\n"
        "set_value = frappe.db.set_value\n"
        "set_value('Background Task', names[0], 'ended_at', frappe.utils.add_days(None, -8))\n"
        "set_value('Background Task', names[2], 'creation', frappe.utils.add_days(None, -2))\n"
        "set_value('Background Task', names[2], 'message_id', 'nobody knows it')\n"
        "frappe.db.commit(); gone = runtime().task_upkeep.clear(frappe.local.site)\n"
        "answer = [sorted(recent) == sorted(names), gone >= 1, row(names[0]), "
        "row(names[1]).status, row(names[2]).status]"
    )
    assert found == [True, True, None, "Cancelled", "Failed"]


def test_where_frappes_own_doctype_has_not_our_field_yet_they_are_refused(
    bench: FrappeBench,
) -> None:
    found = bench.call(
        "def rename(old, new):\n"
        "    frappe.db.sql_ddl(f'alter table `tabBackground Task` rename column {old} to {new}')\n"
        "    frappe.clear_cache()\n"
        "rename('message_id', 'theirs')\n"
        "try:\n    frappe.enqueue('probe.tasks.nothing', queue='long', track_job=True)\n"
        "except Exception as error: answer = [type(error).__name__, str(error)]\n"
        "finally:\n    rename('theirs', 'message_id')",
        site=bench.other_site,
    )
    kind, text = found
    assert kind == "ArgumentError" and "no Background Task with the field 'message_id'" in text


def test_a_frappe_that_extends_classes_may_extend_our_own(bench: FrappeBench) -> None:
    """16 has the hook, and not from the beginning the doctype."""
    found = bench.call(
        LOOK + "from frappe_jobs.frappe_bench.tracked_task import AmongFrappes\n"
        "both = type('Both', (AmongFrappes, page.BackgroundTask), {})\n"
        "answer = [one.__name__ for one in both.__mro__[:4]]"
    )
    assert found == ["Both", "AmongFrappes", "BackgroundTask", "TrackedTask"]
