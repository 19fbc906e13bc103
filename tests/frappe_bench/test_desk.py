"""The Desk's pages of jobs and workers, over HTTP as the browser asks."""

from __future__ import annotations

import pytest
from frappe_bench.bench import ASK, DESK, WAIT, FrappeBench, Process

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(120)


def test_the_list_is_filtered_and_counted(bench: FrappeBench) -> None:
    found = bench.call(
        DESK + "one = frappe.enqueue('probe.tasks.nothing', queue='long')\n"
        "two = frappe.enqueue('probe.tasks.nothing', queue='long', job_name='two')\n"
        "answer = [listed(status='queued', queue='long'), listed(status='queued', queue='short'), "
        "ask('frappe.desk.reportview.get_count', doctype='RQ Job', fields=[], distinct='false', "
        "filters=[['RQ Job', 'queue', '=', 'long'], ['RQ Job', 'status', '=', 'queued']])"
        "['message'], [one.id, two.id]]"
    )
    jobs, none, count, (one, two) = found
    assert jobs == [
        [two, "queued", "long", "two"], [one, "queued", "long", "probe.tasks.nothing"],
    ]  # fmt: skip
    assert (none, count) == ([], 2)


def test_a_job_that_was_cancelled_before_it_began_is_shown(bench: FrappeBench) -> None:
    found = bench.call(
        DESK + "job = frappe.enqueue('probe.tasks.nothing', queue='long')\njob.cancel()\n"
        "answer = [job.id, listed(status='canceled', queue='long')]"
    )
    job_id, (last, *_) = found
    assert last == [job_id, "canceled", "long", "probe.tasks.nothing"]


def test_another_sites_job_is_not_shown(bench: FrappeBench) -> None:
    other = bench.call(
        "answer = frappe.enqueue('probe.tasks.nothing', queue='long').id", site=bench.other_site
    )
    found = bench.call(
        ASK + "answer = [[one[0] for one in listed()], ask('frappe.desk.form.load.getdoc', "
        f"doctype='RQ Job', name={other!r})['status']]"
    )
    assert other not in found[0] and found[1] == 403


def test_the_form_shows_a_failed_jobs_error_and_retry_runs_it_again(
    bench: FrappeBench, worker: Process
) -> None:
    found = bench.call(
        DESK + WAIT + "job = wait(frappe.enqueue('probe.tasks.write_todo', text='x', fail=True))\n"
        "form = ask('frappe.desk.form.load.getdoc', doctype='RQ Job', name=job.id)['docs'][0]\n"
        "again = ask('frappe_jobs.frappe_bench.desk.retry_job', job_id=job.id)['message']\n"
        "later = jobs.Job.fetch(job.id)\n"
        "answer = [form['status'], 'ValueError: x failed' in form['exc_info'], "
        "json.loads(form['arguments'])['kwargs'], again == job.id, wait(later).is_failed, "
        "later._record.message.id != job._record.message.id]"
    )
    assert found == ["failed", True, {"fail": True, "text": "x"}, True, True, True]


def test_stop_and_delete(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        DESK + WAIT + "import tempfile\n"
        "runs = frappe.enqueue('probe.tasks.write_and_wait', text='x', path=tempfile.mktemp())\n"
        "waits = frappe.enqueue('probe.tasks.nothing', queue='long')\nwait(runs, 'started')\n"
        "ask('frappe.core.doctype.rq_job.rq_job.stop_job', job_id=runs.id)\n"
        "ask('frappe.client.delete', doctype='RQ Job', name=waits.id)\n"
        "said = ask('frappe.core.doctype.rq_job.rq_job.stop_job', job_id=runs.id)\n"
        "answer = [wait(runs, 'stopped').get_status(), jobs.get_queue('long').count, "
        "'not running' in said['_server_messages']]"
    )
    assert found == ["stopped", 0, True]


def test_frappes_own_functions_of_the_page_find_our_jobs(bench: FrappeBench) -> None:
    """Those that its scripts and its tests call; a later one asks a registry as RQ 2 has it."""
    found = bench.call(
        DESK + "from frappe.core.doctype.rq_job import rq_job\n"
        "job = frappe.enqueue('probe.tasks.nothing', queue='long')\nlong = jobs.get_queue('long')\n"
        "answer = {status: job.id in rq_job.fetch_job_ids(long, status) for status in "
        "('queued', 'started', 'finished', 'failed', 'deferred', 'scheduled', 'canceled')}\n"
        "job.cancel()\nanswer['then'] = job.id in rq_job.fetch_job_ids(long, 'canceled')"
    )
    assert [status for status, is_there in found.items() if is_there] == ["queued", "then"]


def test_remove_failed_jobs_removes_the_sites_own(bench: FrappeBench, worker: Process) -> None:
    fail = "job = wait(frappe.enqueue('probe.tasks.write_todo', text='x', fail=True))\n"
    other = bench.call(WAIT + fail + "answer = job.id", site=bench.other_site)
    found = bench.call(
        DESK + WAIT + fail + "before = len(listed(status='failed'))\n"
        "ask('frappe.core.doctype.rq_job.rq_job.remove_failed_jobs')\n"
        "answer = [before > 0, listed(status='failed')]"
    )
    assert found == [True, []]
    kept = f"answer = frappe.utils.background_jobs.Job.exists({other!r})"
    assert bench.call(kept, site=bench.other_site)


def test_the_workers_page(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        DESK + "reply = ask('frappe.desk.reportview.get_list', doctype='RQ Worker', "
        "fields=['name'])['message']\none = reply[0]\n"
        "form = ask('frappe.desk.form.load.getdoc', doctype='RQ Worker', name=one['name'])\n"
        "answer = [len(reply), one['queue_type'], one['status'], one['pid'], "
        "form['docs'][0]['name'] == one['name']]"
    )
    assert found == [1, "short,default", "idle", worker.process.pid, True]


def test_only_a_system_manager_may(bench: FrappeBench) -> None:
    found = bench.call(
        DESK + "token.clear()\nanswer = [ask(method)['status'] for method in ("
        "'frappe_jobs.frappe_bench.desk.retry_job', 'frappe.core.doctype.rq_job.rq_job."
        "remove_failed_jobs', 'frappe.desk.reportview.get_list')]"
    )
    assert found == [403, 403, 403]


@pytest.mark.parametrize("page", ["RQ Job", "RQ Worker"])
def test_the_lists_are_for_those_who_may_read_them(
    bench: FrappeBench, worker: Process, clerk: str, page: str
) -> None:
    """Frappe's list view leaves that to whoever makes the list of a virtual doctype."""
    found = bench.call(
        DESK + "frappe.enqueue('probe.tasks.nothing', queue='long', secret='x')\n"
        f"asked = dict(doctype={page!r}, fields=['name'], flags=dict(ignore_permissions=True), "
        "user='Administrator', ignore_permissions='1')\n"
        "def said():\n    replies = [ask(f'frappe.desk.reportview.{one}', **asked) for one in "
        "('get', 'get_list', 'get_count')]\n"
        "    return [one.get('status') or bool(one['message']) for one in replies]\n"
        f"answer = [said()]\ntoken.update(key_of({clerk!r}))\n"
        "answer.append(ask('frappe.auth.get_logged_user')['message'])\nanswer.append(said())\n"
        "answer.append(len(frappe.get_all('RQ Worker')))"
    )
    assert found == [[True] * 3, clerk, [403] * 3, 1]


def test_system_health_reads_our_queues(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        DESK + "report = frappe.get_doc('System Health Report')\n"
        "answer = [[row.queues, bool(row.count)] for row in report.background_workers] + "
        "[[row.queue, row.pending_jobs] for row in report.queue_status]"
    )
    assert ["short,default", True] in found and ["long", 0] in found


def test_system_health_sees_the_scheduler_that_leads(bench: FrappeBench) -> None:
    """On whatever machine; it leads some moments after it has said that it is ready."""
    status = "answer = frappe.get_doc('System Health Report').scheduler_status"
    assert bench.call(status) == "Process Not Found"
    with bench.process("schedule"):
        assert wait_until(lambda: bench.call(status) == "Active", 20)
    assert bench.call(status) == "Process Not Found"
