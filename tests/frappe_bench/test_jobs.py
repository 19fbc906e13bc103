"""A job on a real bench: enqueued by Frappe's own function, run in the right site as the user."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from frappe_bench.bench import WAIT, FrappeBench, Process, read_notes

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(120)


def test_a_job_runs_on_its_site_as_who_enqueued_it(bench: FrappeBench, worker: Process) -> None:
    for site in (bench.site, bench.other_site):
        found = bench.call(
            WAIT + "job = wait(frappe.enqueue('probe.tasks.look', queue='short'))\n"
            "answer = {'id': job.id, 'seen': job.result, 'database': frappe.conf.db_name, "
            "'any': frappe.utils.background_jobs.create_job_id('')}",
            site=site, user="Guest",
        )  # fmt: skip
        seen = found["seen"]
        # As this Frappe spells ids: site::id or, later, site||id.
        assert found["id"][: len(site) + 2] == found["any"][: len(site) + 2]
        assert (seen["site"], seen["user"], seen["database"]) == (site, "Guest", found["database"])
        assert (seen["job"], seen["rq"]) == ("probe.tasks.look", found["id"])


def test_what_a_job_writes_is_committed(bench: FrappeBench, worker: Process) -> None:
    text = uuid4().hex
    code = f"wait(frappe.enqueue('probe.tasks.write_todo', text={text!r}))\nfrappe.db.commit()\n"
    count = f"answer = frappe.db.count('ToDo', {{'description': {text!r}}})"
    assert bench.call(WAIT + code + count) == 1
    assert bench.call(count, site=bench.other_site) == 0


def test_the_first_job_that_saves_a_document_has_next_to_nothing_to_import(
    bench: FrappeBench,
) -> None:
    """What each process of a worker imports for itself takes its memory as often."""
    job = "frappe.enqueue('probe.tasks.write_todo_and_tell_what_it_imports', queue='long')"
    with bench.process("worker", "--queue", "long"):
        imported = bench.call(f"{WAIT}answer = wait({job}).result")
    assert len(imported) < 5, imported


def test_a_failed_job_is_rolled_back_and_logged(bench: FrappeBench, worker: Process) -> None:
    text = uuid4().hex
    found = bench.call(
        WAIT + f"job = wait(frappe.enqueue('probe.tasks.write_todo', text={text!r}, fail=True))\n"
        f"frappe.db.commit()\nanswer = [job.is_failed, job.exc_info, frappe.db.count('ToDo', "
        f"{{'description': {text!r}}}), frappe.get_all('Error Log', {{'error': ('like', "
        f"'%{text}%')}}, pluck='method')]"
    )
    failed, traceback, count, logged = found
    assert failed and f"ValueError: {text} failed" in traceback
    assert (count, logged) == (0, ["probe.tasks.write_todo"])


def test_jobs_of_two_sites_leave_nothing_to_each_other(bench: FrappeBench, worker: Process) -> None:
    """Hazard 1: each of these leaves Frappe's own worker without a ``frappe.destroy()``."""
    failures = [
        "frappe.enqueue('no_such_app.tasks.run', queue='short')",
        "frappe.enqueue('probe.no_such_module.run', queue='short')",
        "frappe.enqueue('probe.tasks.no_such_function', queue='short')",
        "frappe.enqueue('probe.tasks.callbacks', queue='short', path='/dev/null', fail=True)",
        "frappe.enqueue('probe.tasks.look_and_soil', queue='short')",
    ]
    code = (
        WAIT
        + "jobs = []\nfor round in range(2):\n"
        + "".join(
            f"    {failure}\n"
            f"    frappe.destroy(); frappe.init(site={other!r}, sites_path='.'); frappe.connect()\n"
            "    jobs.append((frappe.conf.db_name, frappe.local.site, "
            "frappe.enqueue('probe.tasks.look', queue='short')))\n"
            for failure in failures
            for other in (bench.other_site, bench.site)
        )
        + "answer = [[name, site, wait(job).result] for name, site, job in jobs]"
    )
    found = bench.call(code)
    assert len(found) == 20
    for database, site, seen in found:
        assert (seen["database"], seen["site"], seen["user"]) == (database, site, "Administrator")
        left = (seen["flags"], seen["soiled"], seen["conf"], seen["form"])
        assert left == ({}, None, None, {}) and seen["lang"] != "fr"


def test_hooks_callbacks_and_after_job(bench: FrappeBench, worker: Process, notes: Path) -> None:
    code = (
        WAIT + "from probe import tasks\nanswer = wait(frappe.enqueue('probe.tasks.callbacks', "
        f"path={str(notes)!r}, on_success=tasks.on_success, on_failure=tasks.on_failure)).id\n"
        f"job = wait(frappe.enqueue('probe.tasks.write_todo', path={str(notes)!r}, text='x', "
        "fail=True, on_success=tasks.on_success, on_failure=tasks.on_failure))\n"
        f"end = time.time() + 10\nwhile open({str(notes)!r}).read().count('\\n') < 8 "
        "and time.time() < end: time.sleep(0.02)"
    )
    first = bench.call(code)
    found = [{*one} & {"hook", "what", "success", "failure", "text"} for one in read_notes(notes)]
    kinds = [kind for (kind,) in found]
    assert kinds == ["hook", "hook", "what", "success", "hook", "text", "hook", "failure"]
    assert [one["hook"] for one in read_notes(notes) if "hook" in one] == [
        "before", "after", "before", "after",
    ]  # fmt: skip
    assert [one["success"] for one in read_notes(notes) if "success" in one] == [first]


@pytest.mark.parametrize("commits", [False, True])
def test_what_a_job_writes_is_committed_once(
    bench: FrappeBench, worker: Process, notes: Path, commits: bool
) -> None:
    """Its process is killed between its commit and the record of its end."""
    text = uuid4().hex
    found = bench.call(
        WAIT + f"job = wait(frappe.enqueue('probe.tasks.write_and_die', text={text!r}, "
        f"path={str(notes)!r}, commits={commits}, queue='short'))\nfrappe.db.commit()\n"
        f"answer = [job.is_finished, job.result, frappe.db.count('ToDo', "
        f"{{'description': {text!r}}})]"
    )
    assert found == [True, text, 1]
    assert sum("text" in one for one in read_notes(notes)) == 1


def test_a_job_that_only_reads_leaves_no_done_marker(bench: FrappeBench, worker: Process) -> None:
    count = "frappe.db.sql('select count(*) from `__frappe_jobs_done`')[0][0]"
    found = bench.call(
        WAIT + f"before = {count}\nwait(frappe.enqueue('probe.tasks.look'))\n"
        f"frappe.db.commit()\nafter = {count}\n"
        "wait(frappe.enqueue('probe.tasks.write_todo', text='x'))\nfrappe.db.commit()\n"
        f"answer = [after - before, {count} - after]"
    )
    assert found == [0, 1]


def test_a_deadlock_is_tried_again_as_the_same_user(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    text = uuid4().hex
    found = bench.call(
        WAIT + f"job = wait(frappe.enqueue('probe.tasks.write_todo', text={text!r}, "
        f"path={str(notes)!r}, conflict=2, queue='short'))\nfrappe.db.commit()\n"
        f"answer = [job.is_finished, frappe.db.count('ToDo', {{'description': {text!r}}})]",
        user="Guest",
    )
    assert found == [True, 1]
    assert [one["user"] for one in read_notes(notes) if "user" in one] == ["Guest"] * 2
    assert sum(one.get("hook") == "after" for one in read_notes(notes)) == 1


@pytest.fixture
def served(bench: FrappeBench) -> FrappeBench:
    """A bench whose database is a server, which may go away."""
    if bench.db_type == "sqlite":
        pytest.skip("SQLite is a file: there is no server, and no connection that is lost.")
    return bench


def test_a_job_that_loses_its_database_connection_is_tried_again(
    served: FrappeBench, worker: Process, notes: Path
) -> None:
    text = uuid4().hex
    found = served.call(
        WAIT + f"job = wait(frappe.enqueue('probe.tasks.lose_its_connection', text={text!r}, "
        f"path={str(notes)!r}, queue='short'))\nfrappe.db.commit()\n"
        f"answer = [job.is_finished, job.exc_info, frappe.db.count('ToDo', "
        f"{{'description': {text!r}}})]"
    )
    assert found == [True, None, 1]
    assert sum("text" in one for one in read_notes(notes)) == 2


def test_a_job_gets_rqs_exception_at_its_timeout(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    found = bench.call(
        WAIT + f"job = wait(frappe.enqueue('probe.tasks.take_too_long', path={str(notes)!r}, "
        "timeout=1))\nanswer = [job.is_failed, job.exc_info]"
    )
    assert found[0] and "JobTimeoutException" in found[1]
    assert {"caught": True} in read_notes(notes)


def test_a_path_of_no_installed_app_is_never_called(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        WAIT + "jobs = [wait(frappe.enqueue(path, command='true')) for path in "
        "('os.system', 'probe.tasks.not_of_the_app')]\n"
        "answer = [[job.is_failed, job.exc_info] for job in jobs]"
    )
    for failed, text in found:
        assert failed and "may not run" in text


@pytest.mark.parametrize(
    "value",
    [
        "'text'", "1", "1.5", "None", "[1, (2, 3), {4}]", "{'a': {1: 2}}",
        "frappe._dict(a=frappe._dict(b=1))", "frappe.utils.get_datetime('2026-02-03 04:05:06.7')",
        "frappe.utils.getdate('2026-02-03')", "frappe.utils.to_timedelta('10:11:12')",
        "__import__('decimal').Decimal('1.10')", "b'bytes'",
    ],
)  # fmt: skip
def test_an_argument_arrives_equal_and_of_its_type(
    bench: FrappeBench, worker: Process, value: str
) -> None:
    code = (
        f"value = {value}\nfrom frappe_jobs.frappe_bench.host.arguments import bench_arguments\n"
        "import json\narguments = bench_arguments()\n"
        "sent = json.loads(json.dumps(arguments.encode({'value': value})))\n"
        "back = arguments.decode(sent)['value']\n"
        "answer = [back == value, type(back) is type(value)]"
    )
    assert bench.call(code) == [True, True]


def test_a_document_arrives_with_values_children_and_flags(
    bench: FrappeBench, worker: Process
) -> None:
    code = (
        WAIT + "from probe import tasks\ndoc = frappe.get_doc('User', 'Administrator')\n"
        "doc.append('roles', {'role': 'Sales User'})\ndoc.flags.in_doubt = True\n"
        "doc._private = object()\n"
        "job = wait(frappe.enqueue('probe.tasks.describe', document=doc))\n"
        "del doc._private\nmine = json.loads(json.dumps(tasks.describe(doc), default=str))\n"
        "its = json.loads(json.dumps(job.result, default=str)) or job.exc_info\n"
        "answer = [mine, its]"
    )
    mine, its = bench.call(code)
    assert isinstance(its, dict), its
    assert its["flags"] == mine["flags"] and its["flags"]["in_doubt"] is True
    assert [role[1] for role in its["roles"]] == [role[1] for role in mine["roles"]]
    assert its["values"] == mine["values"] and its["private"] == "gone"
    assert (its["type"], its["new"]) == ("User", False)


def test_what_cannot_travel_is_an_error_at_the_call(bench: FrappeBench) -> None:
    code = (
        "from frappe_jobs.errors import FrappeJobsError\nanswer = []\n"
        "for call in (lambda: frappe.enqueue('probe.tasks.nothing', thing=object()),\n"
        "             lambda: frappe.enqueue(lambda: 1)):\n"
        "    try: call()\n"
        "    except FrappeJobsError as error: answer.append(str(error))"
    )
    first, second = bench.call(code)
    assert "thing" in first and "cannot travel" in first
    assert "lambda" in second


def test_a_bound_method_of_a_document_becomes_enqueue_doc(
    bench: FrappeBench, worker: Process
) -> None:
    code = (
        WAIT + "doc = frappe.get_doc({'doctype': 'ToDo', 'description': 'x'}).insert()\n"
        "frappe.db.commit()\njob = wait(frappe.enqueue(doc.add_tag, tag='bound'))\n"
        "other = wait(frappe.enqueue_doc('ToDo', doc.name, 'add_tag', tag='by name'))\n"
        "frappe.db.commit()\ntags = frappe.db.get_value('ToDo', doc.name, '_user_tags')\n"
        "answer = [job.exc_info, other.exc_info, [tag for tag in tags.split(',') if tag]]"
    )
    assert bench.call(code) == [None, None, ["bound", "by name"]]


def test_what_others_change_in_frappes_caches_a_forked_process_sees(bench: FrappeBench) -> None:
    """Frappe 16 keeps hooks and settings in each process, and a thread there takes them out."""
    found = bench.call(
        "import os, time\nfrom frappe_jobs.frappe_bench.host.session import runtime\n"
        "host, site, answer = runtime().host, frappe.local.site, 'none'\n"
        "def known():\n    with host.session(site):\n"
        "        return frappe.client_cache.get_value('probe')\n"
        "if hasattr(frappe, 'client_cache'):\n"
        "    frappe.client_cache.set_value('probe', 'old')\n"
        "    frappe.destroy()\n    reads, reader = os.pipe(); changes, changer = os.pipe()\n"
        "    if (pid := os.fork()) == 0:\n        first = known(); os.write(reader, b'1')\n"
        "        os.read(changes, 1); end = time.time() + 10\n"
        "        while known() != 'new' and time.time() < end:\n            time.sleep(0.05)\n"
        "        os.write(reader, f'{first} {known()}'.encode()); os._exit(0)\n"
        "    os.read(reads, 1)\n    frappe.init(site=site, sites_path='.'); frappe.connect()\n"
        "    frappe.client_cache.set_value('probe', 'new')\n    os.write(changer, b'1')\n"
        "    os.waitpid(pid, 0); answer = os.read(reads, 99).decode()"
    )
    if found == "none":
        pytest.skip("This Frappe keeps no such cache.")
    assert found == "old new"


def test_a_job_whose_database_is_away_waits_for_it(served: FrappeBench) -> None:
    """It is no failed job: whoever comes back finds it done."""
    bench = served
    file = bench.sites / bench.site / "site_config.json"
    before = file.read_text()
    text = uuid4().hex
    job_id = bench.call(
        "frappe.utils.background_jobs.get_queue('long').empty()\n"
        f"answer = frappe.enqueue('probe.tasks.write_todo', text={text!r}, queue='long').id"
    )
    look = (
        f"job = frappe.utils.background_jobs.Job.fetch({job_id!r})\n"
        "answer = [job.get_status(), job._record.attempt, job._record.reason]"
    )
    file.write_text(json.dumps(json.loads(before) | {"db_port": 1}))
    try:
        with bench.process("worker", "--queue", "long"):
            wait_until(lambda: bench.call(look, site=bench.other_site)[1] >= 1, 30)
            status, _, reason = bench.call(look, site=bench.other_site)
            assert status in ("queued", "started") and "connect" in reason
            file.write_text(before)
            wait_until(lambda: bench.call(look, site=bench.other_site)[0] == "finished", 60)
    finally:
        file.write_text(before)
    count = f"answer = frappe.db.count('ToDo', {{'description': {text!r}}})"
    assert bench.call(count) == 1


def test_our_own_api_works_on_a_bench(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        "import frappe_jobs\njob = frappe_jobs.enqueue('probe.tasks.look', queue='short')\n"
        "seen = job.wait(20)\n"
        "try:\n"
        f"    with frappe_jobs.site({bench.other_site!r}): pass\n"
        "except frappe_jobs.FrappeJobsError as error: refused = str(error)\n"
        "answer = [seen['site'], seen['user'], frappe_jobs.local.site, frappe_jobs.session.user, "
        "frappe_jobs.get_doc('User', 'Guest').name, refused]",
        user="Guest",
    )
    assert found[:5] == [bench.site, "Guest", bench.site, "Guest", "Guest"]
    assert "one site open at a time" in found[5]


def test_our_own_api_opens_a_site_of_the_bench(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        "frappe.destroy()\nimport frappe_jobs\n"
        f"with frappe_jobs.site({bench.other_site!r}, user='Guest'):\n"
        "    answer = frappe_jobs.enqueue('probe.tasks.look', queue='short').wait(20)\n"
        f"frappe.init(site={bench.site!r}, sites_path='.'); frappe.connect()"
    )
    assert (found["site"], found["user"]) == (bench.other_site, "Guest")
