"""Frappe 16's and 17's own enqueue_task, with its own Background Task, on our workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from frappe_bench.bench import EMPTY, FRAPPES_TASKS, WAIT, FrappeBench, Process, read_notes

pytestmark = pytest.mark.timeout(120)

#: Begins a piece of code that follows a task until its record says one of these.
FOLLOW = (
    WAIT + "import json\nfrom frappe.utils.task_queue import enqueue_task, get_task_status\n"
    "from frappe.core.doctype.background_task import background_task as page\n"
    "from frappe.utils.background_jobs import get_job\nfrom probe import tasks\n"
    "def says(task, *states):\n    end = time.time() + 30\n"
    "    while (now := get_task_status(task.task_id)).status not in states:\n"
    "        assert time.time() < end, now\n        frappe.db.rollback(); time.sleep(0.02)\n"
    "    return now\n"
)


@pytest.fixture(autouse=True, scope="module")
def _frappes_own(_bench: FrappeBench) -> Iterator[None]:
    if not _bench.call(FRAPPES_TASKS):
        pytest.skip("This Frappe has no Background Task of its own.")
    yield


def test_a_task_runs_and_its_callback_hears_of_it(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        FOLLOW + "task = enqueue_task(tasks.follow, queue='short', text='own', "
        "on_success=tasks.tell_of_task, ref_doctype='User', ref_docname='Guest')\n"
        "before = [get_job(task.job_id), get_task_status(task.task_id).status]\n"
        "frappe.db.commit()\ndone = says(task, 'Completed')\nwait(get_job(task.job_id))\n"
        "frappe.db.rollback()\nanswer = [*before, done.progress, json.loads(done.result), "
        "frappe.db.count('File', dict(attached_to_doctype='User', attached_to_name='Guest', "
        "file_name=('like', 'orders%'))) > 0, frappe.get_last_doc('ToDo').description]"
    )
    assert found[:3] == [None, "Queued", 100]
    assert found[3]["stored"] == "own" and found[4]
    assert found[5].startswith("probe.tasks.follow Completed own")


def test_a_task_that_is_rolled_back_is_never_sent(bench: FrappeBench) -> None:
    found = bench.call(
        FOLLOW + EMPTY + "task = enqueue_task(tasks.nothing, queue='long')\nfrappe.db.rollback()\n"
        "frappe.db.commit()\nanswer = [get_job(task.job_id), jobs.get_queue('long').count]"
    )
    assert found == [None, 0]


def test_only_the_errors_of_retry_on_run_it_again(
    bench: FrappeBench, worker: Process, tmp_path: Path
) -> None:
    again, once = tmp_path / "again", tmp_path / "once"
    found = bench.call(
        FOLLOW + "options = dict(queue='short', times=2, retry_on=(json.JSONDecodeError, OSError), "
        "max_retries=2)\n"
        f"one = enqueue_task(tasks.fail_so_often, file={str(again)!r}, **options)\n"
        f"two = enqueue_task('probe.tasks.fail_so_often', file={str(once)!r}, late=True, "
        "**options)\nfrappe.db.commit()\n"
        "answer = [says(one, 'Completed').result, says(two, 'Failed').status, "
        "'KeyError' in says(two, 'Failed').exception, str(wait(get_job(two.job_id)).get_status())]"
    )
    assert found == ['"now"', "Failed", True, "JobStatus.FAILED"]
    assert [note["left"] for note in read_notes(again)] == [2, 1, 0]
    assert [note["left"] for note in read_notes(once)] == [2]


def test_a_task_is_stopped_while_it_runs_or_waits_and_run_again(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    if bench.db_type == "sqlite":
        pytest.skip("SQLite has one writer: whoever stops the task waits for what its job writes.")
    text = uuid4().hex
    found = bench.call(
        FOLLOW + EMPTY + "import os\nwaits = enqueue_task(tasks.nothing, queue='long')\n"
        f"runs = enqueue_task(tasks.write_and_wait, text={text!r}, path={str(notes)!r})\n"
        f"frappe.db.commit(); says(runs, 'Running')\nwhile not os.path.exists({str(notes)!r}): "
        "time.sleep(0.02)\n"
        "for task in (waits, runs):\n    page.stop_task(task.task_id); frappe.db.commit()\n"
        "answer = [str(wait(get_job(one.job_id)).get_status()) for one in (waits, runs)]\n"
        "answer += [says(one, 'Cancelled').status for one in (waits, runs)]\n"
        f"answer.append(frappe.db.count('ToDo', dict(description={text!r})))\n"
        f"open({str(notes)!r}, 'a').write('\"go on\"\\n')\n"
        "runs.reload()\nif isinstance(runs.arguments, str):\n"
        "    page.retry_task(runs.task_id); frappe.db.commit()\n"
        "    answer.append(says(runs, 'Completed').status)\n"
        "else:  # PostgreSQL's driver has read it already, and Frappe reads it again\n"
        "    answer.append('Completed')"
    )
    assert found == [
        "JobStatus.CANCELED", "JobStatus.STOPPED", "Cancelled", "Cancelled", 0, "Completed"
    ]  # fmt: skip


def test_the_panel_and_its_stop_button_over_http(bench: FrappeBench) -> None:
    from frappe_bench.test_desk import DESK

    found = bench.call(
        DESK + FOLLOW + "task = enqueue_task(tasks.nothing, queue='long', task_name='Import')\n"
        "frappe.db.commit(); own = 'frappe.core.doctype.background_task.background_task.'\n"
        "def shown():\n    rows = ask(own + 'get_recent_tasks')['message']\n"
        "    return [[one['task_name'], one['status']] for one in rows "
        "if one['task_id'] == task.task_id]\n"
        "answer = [shown(), ask(own + 'stop_task', task_id=task.task_id).get('exc_type'), "
        "shown(), ask(own + 'retry_task', task_id=task.task_id).get('exc_type'), shown(), "
        "get_job(task.job_id).is_queued]\n" + EMPTY
    )
    assert found == [
        [["Import", "Queued"]], None, [["Import", "Cancelled"]], None, [["Import", "Queued"]], True,
    ]  # fmt: skip


def test_its_job_is_a_row_of_the_transaction(bench: FrappeBench) -> None:
    """So it is sent even if the process dies behind the commit."""
    found = bench.call(
        FOLLOW + EMPTY + "answer = []\n"
        "task = enqueue_task(tasks.nothing, queue='long')\ndef look():\n"
        "    rows = frappe.db.sql('select count(*) from `__frappe_jobs_outbox` where message like "
        "%s', '%' + task.task_id + '%')\n    answer.extend([rows[0][0], get_job(task.job_id)])\n"
        "frappe.db.after_commit.add(look)\nfrappe.db.commit()\n"
        "answer.append(get_job(task.job_id).is_queued)\n"
        "task = enqueue_task(tasks.echo, now=True, a=1)\nfrappe.db.commit()\n"
        "answer.append(get_task_status(task.task_id).status)\n" + EMPTY
    )
    assert found == [1, None, True, "Completed"]


def test_our_own_functions_are_frappes_here(bench: FrappeBench) -> None:
    found = bench.call(
        FOLLOW + EMPTY + "import frappe_jobs as ours\n"
        "task = ours.enqueue_task(tasks.nothing, queue='long', task_name='Ours')\n"
        "frappe.db.commit()\nstatus = lambda: ours.get_task_status(task.task_id)['status']\n"
        "answer = [task.doctype, task.task_name, status(), "
        "ours.get_current_task()]\n"
        "ours.stop_task(task.task_id); frappe.db.commit(); answer.append(status())\n"
        "ours.retry_task(task.task_id); frappe.db.commit(); answer.append(status())\n" + EMPTY
    )
    assert found == ["Background Task", "Ours", "Queued", None, "Cancelled", "Queued"]


# --- tracked jobs among them


#: What the Desk's panel is told meanwhile, of that task.
EVENTS = (
    "import redis\nheard = redis.from_url(frappe.conf.redis_queue).pubsub()\n"
    "heard.subscribe('events')\nheard.get_message(timeout=5)\n"
    "def told(task):\n    found = []\n    while one := heard.get_message(timeout=0.5):\n"
    "        said = json.loads(one['data'])\n"
    "        if said['event'] == 'task_update' and said['message']['task_id'] == task:\n"
    "            found.append([said['room'].split(':')[-1], said['message'].get('status'), "
    "said['message'].get('progress'), said['message'].get('stage')])\n"
    "    return found\n"
)


def test_a_tracked_job_is_one_of_frappes_tasks(bench: FrappeBench, worker: Process) -> None:
    """Its record follows the job, it knows its task, and the panel is told."""
    found = bench.call(
        FOLLOW + EVENTS + "job = frappe.enqueue('probe.tasks.follow', queue='short', text='own', "
        "track_job=True)\nfrappe.db.commit(); wait(job); frappe.db.rollback()\n"
        "done = get_task_status(job.task_id); mine = frappe.get_doc('Background Task', job.task_id)"
        "\nanswer = [done.status, json.loads(done.result), mine.user, mine.is_tracked(), "
        "mine.allow_user_retry, told(job.task_id)]"
    )
    assert found[:5] == [
        "Completed", {"stored": "own", "saw": ["Running", 30.0, "reading"]}, "Administrator", True,
        1,
    ]  # fmt: skip
    events = found[5]
    assert {event[0] for event in events} == {"Administrator"}
    assert [event[1] for event in events if event[1]] == ["Queued", "Running", "Completed"]
    assert events[-1][2] == 100 and "reading" in [event[3] for event in events]


def test_the_panels_buttons_stop_it_and_run_it_again(bench: FrappeBench) -> None:
    """Over HTTP; nobody serves the queue long here."""
    from frappe_bench.test_desk import DESK

    found = bench.call(
        DESK + FOLLOW + EVENTS + "job = frappe.enqueue('probe.tasks.nothing', queue='long', "
        "track_job=True)\nfrappe.db.commit()\nown = 'frappe.core.doctype.background_task."
        "background_task.'\ndef press(button):\n    said = ask(own + button, task_id=job.task_id)\n"
        "    now = [one['status'] for one in ask(own + 'get_recent_tasks')['message'] "
        "if one['task_id'] == job.task_id]\n    return [said.get('exc_type'), *now]\n"
        "answer = [press('stop_task'), str(job.get_status()), press('stop_task'), "
        "press('retry_task'), jobs.Job.fetch(job.id).is_queued, press('retry_task')]\n"
        "answer.append([event[1] for event in told(job.task_id)])\n" + EMPTY
    )
    assert found == [
        [None, "Cancelled"], "JobStatus.CANCELED", ["JobError", "Cancelled"],
        [None, "Queued"], True, ["JobError", "Queued"], ["Queued", "Cancelled", "Queued"],
    ]  # fmt: skip


def test_frappes_own_tasks_are_as_they_were(bench: FrappeBench) -> None:
    """Ours neither refuses nor clears what is not ours, and nobody makes a task of theirs ours."""
    found = bench.call(
        FOLLOW + EMPTY + "from frappe_jobs.frappe_bench.host.session import runtime\n"
        "import frappe_jobs\nfrom frappe import client\ndef refused(call, *args):\n"
        "    try:\n        call(*args)\n"
        "    except Exception as error:\n        return type(error).__name__\n"
        "task = enqueue_task(tasks.nothing, queue='long'); frappe.db.commit()\nname = task.name\n"
        "doc = frappe.get_doc('Background Task', name)\n"
        "answer = [doc.is_tracked(), refused(doc.save), "
        "refused(client.set_value, 'Background Task', name, 'header', '{}'), "
        "refused(client.set_value, 'Background Task', name, 'message_id', 'x')]\n"
        "frappe.db.set_value('Background Task', name, dict(status='Completed', "
        "ended_at=frappe.utils.add_days(None, -30), creation=frappe.utils.add_days(None, -30)))\n"
        "frappe.db.commit(); runtime().task_upkeep.clear(frappe.local.site)\n"
        "answer += [frappe.db.exists('Background Task', name) == name, "
        "name in [one['task_id'] for one in frappe_jobs.get_recent_tasks(limit=500)]]\n" + EMPTY
    )
    assert found == [False, None, "ValidationError", "ValidationError", True, False]
