"""Our enqueue_task on a bench whose Frappe has none of its own: 15."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from frappe_bench.bench import FRAPPES_TASKS, FrappeBench, Process
from frappe_bench.test_tracked_jobs import LOOK, MARK, OWNER, people, reaches

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(180)

__all__ = ["people"]  # a fixture


@pytest.fixture(autouse=True, scope="module")
def _ours(_bench: FrappeBench) -> Iterator[None]:
    if _bench.call(FRAPPES_TASKS):
        pytest.skip("enqueue_task is Frappe's own here: test_frappes_tasks.py.")
    yield


@pytest.mark.parametrize("fail", [False, True])
def test_enqueue_task_is_frappe_16s(bench: FrappeBench, worker: Process, fail: bool) -> None:
    """Progress, a result, a file at its own document, a callback; only what succeeds stays."""
    text = f"{MARK} {fail}"
    found = bench.call(
        "import frappe_jobs\n"
        f"task = frappe_jobs.enqueue_task('probe.tasks.follow', task_name='Follow', "
        "queue='short', ref_doctype='User', ref_docname='Guest', "
        "on_success='probe.tasks.tell_of_task', on_failure='probe.tasks.tell_of_task', "
        f"allow_user_retry=False, text={text!r}, fail={fail})\n"
        "answer = [task.name, task.status, task.ref_docname, task.allow_user_retry, "
        "task.allow_user_cancellation]"
    )
    assert found[1:] == ["Queued", "Guest", 0, 1]
    done = reaches(bench, found[0], "Completed", "Failed")
    look = (
        "files = dict(attached_to_doctype='User', attached_to_name='Guest')\n"
        f"like = dict(description=('like', '%{text}%'))\n"
        "said = frappe.get_all('ToDo', like, pluck='description')\n"
        "answer = [frappe.db.count('File', files), said]\n"
        "for one in frappe.get_all('File', files, pluck='name'):\n"
        "    frappe.delete_doc('File', one)"
    )
    wait_until(lambda: bench.call(look.partition("\nfor")[0])[1], 20)
    files, [told] = bench.call(look)
    if fail:
        assert (done["status"], done["result"], files) == ("Failed", None, 0)
        assert told == f"Follow Failed {text} None KeyError({text!r})"
    else:
        saw = '["Running", 30.0, "reading"]'
        assert done["result"] == f'{{"stored": "{text}", "saw": {saw}}}' and files == 1
        assert told == f"Follow Completed {text} None None"


def test_a_task_is_stopped_and_run_again_as_it_allows(
    bench: FrappeBench, notes: Path, people: None
) -> None:
    """Nobody serves the queue long here."""
    code = (
        LOOK + "import frappe_jobs as ours\n"
        "task = ours.enqueue_task('probe.tasks.nothing', queue='long', allow_user_retry=False)\n"
        "frappe.db.commit(); name = task.task_id\n"
        "answer = [ours.get_task_status(name)['status'], refused(ours.stop_task, 'nobody')]\n"
        "ours.stop_task(name); frappe.db.rollback()\n"
        "answer += [ours.get_task_status(name)['status'], refused(ours.retry_task, name), "
        "refused(ours.stop_task, name), ours.get_task_status('nobody'), ours.get_current_task()]"
    )
    assert bench.call(code, user=OWNER) == [
        "Queued", "DoesNotExistError", "Cancelled", "PermissionError", "JobError", None, None,
    ]  # fmt: skip


def test_now_runs_it_here(bench: FrappeBench) -> None:
    found = bench.call(
        LOOK + "import frappe_jobs as ours\n"
        "task = ours.enqueue_task('probe.tasks.follow', now=True, text='here')\n"
        "answer = [task.status, task.stage, frappe.parse_json(task.result)['stored'], "
        "frappe.db.count('File', dict(attached_to_name=task.name))]\n"
        "answer.append(refused(ours.enqueue_task, 'probe.tasks.follow', now=True, text='x', "
        "fail=True))\nfrappe.db.rollback()"
    )
    assert found == ["Completed", "reading", "here", 1, "KeyError"]
