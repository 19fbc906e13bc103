"""Frappe's own functions on our queues: what they say of jobs, and what they do to them."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from frappe_bench.bench import EMPTY, WAIT, FrappeBench, Process, read_notes

pytestmark = pytest.mark.timeout(120)


def test_what_waits_is_seen_by_all_of_frappes_functions(bench: FrappeBench) -> None:
    other = bench.other_site
    found = bench.call(
        EMPTY + "from frappe.utils import doctor\n"
        "first = frappe.enqueue('probe.tasks.nothing', queue='long', job_id='one', a=1)\n"
        "second = frappe.enqueue('probe.tasks.nothing', queue='long', event='yearly', a=2)\n"
        "queue = jobs.get_queue('long')\n"
        "answer = [queue.name, queue.count, queue.get_job_ids() == [first.id, second.id],\n"
        "  [job.kwargs['kwargs'] for job in queue.jobs], [first.get_position(), "
        "second.get_position()], jobs.get_jobs(key='a'), jobs.get_jobs(site=frappe.local.site, "
        f"queue='long'), jobs.get_jobs(site={other!r}), jobs.get_job('one') == first,\n"
        "  jobs.get_job_status('one'), jobs.is_job_enqueued('one'), jobs.is_job_enqueued('two'),\n"
        "  doctor.get_pending_jobs(frappe.local.site)['long'], "
        "doctor.any_job_pending(frappe.local.site),\n"
        "  doctor.get_jobs_by_queue(frappe.local.site)[0]['long'],\n"
        "  doctor.purge_pending_jobs(event='yearly', site=frappe.local.site), queue.count,\n"
        "  [q.name for q in jobs.get_queues()]]\n" + EMPTY + "answer.append(queue.count)"
    )  # fmt: skip
    bench_id = bench.bench_id
    path = "probe.tasks.nothing"
    assert found == [
        f"{bench_id}:long", 2, True, [{"a": 1}, {"a": 2}], [0, 1], {bench.site: [1, 2]},
        {bench.site: [path, path]}, {}, True, "queued", True, False,
        [f"{path} {{'a': 1}}", f"{path} {{'a': 2}}"], True, {path: 2}, 1, 1,
        [f"{bench_id}:{name}" for name in ("short", "default", "long")], 0,
    ]  # fmt: skip


def test_a_deleted_job_takes_its_message_along(bench: FrappeBench) -> None:
    """On RabbitMQ no message can be taken out: a worker drops it."""
    found = bench.call(
        EMPTY + "from rq.exceptions import NoSuchJobError\n"
        "from frappe_jobs.frappe_bench.host.session import runtime\n"
        "job = frappe.enqueue('probe.tasks.nothing', queue='long')\nbefore = "
        "runtime().broker.depth('long')\njob.delete()\nanswer = [before - "
        "runtime().broker.depth('long'), job.get_status()]\n"
        "try: job.refresh()\nexcept NoSuchJobError: answer.append('gone')"
    )
    assert found == [0 if bench.is_on_rabbitmq else 1, None, "gone"]


def test_at_front_stands_before_those_that_wait(bench: FrappeBench) -> None:
    found = bench.call(
        EMPTY + "low = frappe.enqueue('probe.tasks.nothing', queue='long')\n"
        "high = frappe.enqueue('probe.tasks.nothing', queue='long', at_front=True)\n"
        "answer = [high.get_position(), low.get_position(), jobs.get_queue('long').job_ids == "
        "[high.id, low.id]]\n" + EMPTY
    )
    assert found == [0, 1, True]


def test_of_many_that_deduplicate_at_once_one_wins(bench: FrappeBench) -> None:
    found = bench.call(
        EMPTY + "import os\nread, write = os.pipe()\nstart, go = os.pipe()\nfrappe.db.close()\n"
        "pids = []\nfor n in range(8):\n"
        "    if (pid := os.fork()) == 0:\n"
        "        os.read(start, 1)\n"
        "        job = frappe.enqueue('probe.tasks.nothing', queue='long', job_id='race', "
        "deduplicate=True)\n"
        "        os.write(write, b'1' if job else b'0'); os._exit(0)\n"
        "    pids.append(pid)\n"
        "os.write(go, b'12345678')\nfor pid in pids: os.waitpid(pid, 0)\n"
        "answer = os.read(read, 100).decode().count('1')\nfrappe.db.connect()\n" + EMPTY
    )
    assert found == 1


def test_deduplicate_holds_while_it_waits_and_no_longer(
    bench: FrappeBench, worker: Process
) -> None:
    found = bench.call(
        EMPTY + WAIT + "def send(**more): return frappe.enqueue('probe.tasks.nothing', "
        "queue='short', job_id='again', deduplicate=True, **more)\n"
        "first = wait(send()); second = send()\nanswer = [bool(second), wait(second).is_finished]"
    )
    assert found == [True, True]


def test_our_options_are_no_arguments_of_the_method(bench: FrappeBench, worker: Process) -> None:
    """A later Frappe's own enqueue has the option retry, and takes it from every method."""
    found = bench.call(
        WAIT + "import inspect\njob = wait(frappe.enqueue('probe.tasks.echo', a=1, retry=2, "
        "at_front_when_starved=True))\nown = wait(frappe.enqueue('probe.tasks.takes_retry', "
        "retry=5))\nanswer = [job.result, job._record.message.retry.max, own.result, "
        "own._record.message.retry, 'retry' in inspect.signature(frappe.enqueue).parameters]"
    )
    assert found[:2] == [{"a": ["int", 1]}, 2]
    is_frappes = found.pop()
    assert is_frappes or found[2:] == [5, None]


def test_rqs_own_retry_is_served(bench: FrappeBench, worker: Process, notes: Path) -> None:
    """Of code that asks Frappe for a queue and hands RQ's options in."""
    found = bench.call(
        WAIT + "from rq import Retry\n"
        "queue = frappe.utils.background_jobs.get_queue('short')\n"
        f"given = dict(kwargs=dict(file={str(notes)!r}), retry=Retry(max=2))\n"
        "job = wait(queue.enqueue_call('probe.tasks.fail_once', **given))\n"
        "answer = [job.get_status(), job.return_value(), job._record.message.retry.max]"
    )
    assert found == ["finished", "now", 2]
    assert [one["first"] for one in read_notes(notes)] == [True, False]


@pytest.mark.parametrize(("given", "seconds"), [("'600'", 600), ("'10m'", 600), ("7", 7)])
def test_a_timeout_is_read_as_rq_reads_it(bench: FrappeBench, given: str, seconds: int) -> None:
    code = EMPTY + f"job = frappe.enqueue('probe.tasks.nothing', queue='long', timeout={given})\n"
    assert bench.call(code + "answer = job.timeout\njob.delete()") == seconds


def test_no_timeout_is_a_very_long_one(bench: FrappeBench) -> None:
    code = EMPTY + "job = frappe.enqueue('probe.tasks.nothing', queue='long', timeout=-1)\n"
    assert bench.call(code + "answer = job.timeout\njob.delete()") > 30 * 24 * 3600


def test_after_commit_is_sent_at_the_commit_and_dropped_at_a_rollback(bench: FrappeBench) -> None:
    found = bench.call(
        EMPTY + "queue = jobs.get_queue('long')\nanswer = []\n"
        "for end in (frappe.db.rollback, frappe.db.commit):\n"
        "    frappe.enqueue('probe.tasks.nothing', queue='long', enqueue_after_commit=True)\n"
        "    before = queue.count; end(); answer.append([before, queue.count])\n" + EMPTY
    )
    assert found == [[0, 0], [0, 1]]


def test_code_that_had_the_name_before_is_served_too(bench: FrappeBench) -> None:
    found = bench.call(
        "frappe.destroy()\n"
        "from frappe_jobs.frappe_bench.rq import transport\ntransport.uninstall()\n"
        "from frappe.utils.background_jobs import enqueue\n"
        f"frappe.init(site={bench.site!r}, sites_path='.'); frappe.connect()\n"
        "job = enqueue('probe.tasks.nothing', queue='long')\n"
        "answer = type(job).__module__\njob.delete()"
    )
    assert found == "frappe_jobs.frappe_bench.rq.job"


def test_an_unknown_queue_is_frappes_own_error(bench: FrappeBench) -> None:
    found = bench.call(
        "try: frappe.enqueue('probe.tasks.nothing', queue='nowhere')\n"
        "except frappe.ValidationError as error: answer = str(error)"
    )
    assert "short, default, long" in found


def test_in_tests_is_async_false_runs_it_here(bench: FrappeBench) -> None:
    found = bench.call(
        "frappe.in_test = frappe.flags.in_test = True\n"
        "ok = frappe.enqueue('probe.tasks.look', is_async=False)\n"
        "bad = frappe.enqueue('probe.tasks.write_todo', text='x', fail=True, is_async=False)\n"
        "answer = [ok.get_status(), ok.result['in_test'], bad.is_failed, bad.exc_info]"
    )
    assert found == ["finished", True, True, "ValueError('x failed')"]


def test_what_runs_is_seen_and_can_be_stopped(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    text = uuid4().hex
    found = bench.call(
        WAIT + "from frappe.utils import background_jobs as jobs\nimport os\n"
        f"job = frappe.enqueue('probe.tasks.write_and_wait', text={text!r}, path={str(notes)!r})\n"
        f"wait(job, 'started')\nwhile not os.path.exists({str(notes)!r}): time.sleep(0.02)\n"
        "queue = jobs.get_queue('default')\n"
        "answer = [jobs.get_running_jobs_in_queue(queue) == [job], jobs.get_jobs(key='text'),\n"
        "  [[w.get_state(), w.get_current_job_id() == job.id, w.queue_names()] "
        "for w in jobs.get_workers(queue)]]\n"
        "frappe.get_doc('RQ Job', job.id).stop_job()\nwait(job, 'stopped')\nfrappe.db.commit()\n"
        f"answer.append(frappe.db.count('ToDo', {{'description': {text!r}}}))"
    )
    bench_id = bench.bench_id
    names = [f"{bench_id}:{name}" for name in ("short", "default")]
    assert found == [True, {bench.site: [text]}, [["busy", True, names]], 0]
    assert len([one for one in read_notes(notes) if "pid" in one]) == 1


def test_the_stop_buttons_of_reports_and_imports_stop_our_jobs(
    bench: FrappeBench, worker: Process, notes: Path
) -> None:
    """They call RQ's command, by the name that their modules have imported.

    Before 16 only the form of RQ Job does (test_desk.py).
    """
    has = "hasattr(prepared_report, 'send_stop_job_command')"
    if not bench.call(
        f"from frappe.core.doctype.prepared_report import prepared_report\nanswer = {has}"
    ):
        pytest.skip("This Frappe stops a report's job through its RQ Job: test_desk.py.")
    found = bench.call(
        WAIT + "import os\nfrom frappe.core.doctype.data_import import data_import\n"
        "from frappe.core.doctype.prepared_report import prepared_report\n"
        "from rq import command, job as rqs\nname = 'send_stop_job_command'\n"
        f"job = frappe.enqueue('probe.tasks.write_and_wait', text='x', path={str(notes)!r})\n"
        f"wait(job, 'started')\nwhile not os.path.exists({str(notes)!r}): time.sleep(0.02)\n"
        "both = [vars(one) for one in (prepared_report, data_import)]\n"
        "theirs = [one[name] for one in both if name in one]\n"
        "answer = [theirs != [], {*theirs} == {command.send_stop_job_command}]\n"
        "theirs[0](connection=None, job_id=job.id)\n"
        "answer.append(wait(rqs.Job.fetch(job.id)).is_stopped)"
    )
    assert found == [True, True, True]


def test_a_submission_finds_its_job(bench: FrappeBench, worker: Process) -> None:
    """Submission Queue asks ``rq.get_current_job()`` for its id, and gets a document."""
    found = bench.call(
        WAIT
        + "from frappe.core.doctype.submission_queue.submission_queue import queue_submission\n"
        "doc = frappe.get_doc({'doctype': 'ToDo', 'description': 'x'}).insert()\n"
        "queue_submission(doc, 'save')\nfrappe.db.commit()\nend = time.time() + 20\n"
        "while time.time() < end:\n"
        "    last = frappe.get_last_doc('Submission Queue')\n"
        "    if last.status != 'Queued': break\n"
        "    frappe.db.rollback(); time.sleep(0.05)\n"
        "answer = [last.ref_docname == doc.name, last.status, "
        "frappe.get_doc('RQ Job', last.job_id).status]"
    )
    assert found == [True, "Finished", "finished"]


def test_an_id_that_frappe_spells_in_its_own_way_is_found(bench: FrappeBench) -> None:
    """Later Frappes put | for :, as RQ takes none any more."""
    found = bench.call(
        EMPTY + "import frappe_jobs\n"
        "one = frappe.enqueue('probe.tasks.nothing', queue='long', job_id='a::b:1')\n"
        "two = frappe_jobs.enqueue('probe.tasks.nothing', queue='long', job_id='c::d:2')\n"
        "ids = [jobs.create_job_id(name) for name in ('a::b:1', 'c::d:2')]\n"
        "answer = [[jobs.is_job_enqueued('a::b:1'), jobs.is_job_enqueued('c::d:2'), "
        "frappe_jobs.is_job_enqueued('a::b:1'), frappe_jobs.is_job_enqueued('c::d:2')], "
        "one.id == ids[0], jobs.get_queue('long').get_job_ids() == ids, "
        "[frappe.get_doc('RQ Job', name).job_id for name in ids] == ids, "
        "jobs.is_job_enqueued('a::b:2'), "
        "frappe.enqueue('probe.tasks.nothing', queue='long', job_id='c::d:2', deduplicate=True)]\n"
        + EMPTY
    )
    assert found == [[True] * 4, True, True, True, False, None]


def test_a_full_queue_is_frappes_error_where_it_has_one_and_ours_to_our_own_callers(
    bench: FrappeBench,
) -> None:
    """Later Frappes ask for themselves, before they hand a job to us."""
    before = bench.config
    bench.write_config(before | {"max_queued_jobs": 2})
    try:
        found = bench.call(
            EMPTY + "import frappe_jobs\nfrom frappe_jobs.errors import QueueOverloaded\n"
            "theirs, answer = getattr(frappe, 'QueueOverloaded', QueueOverloaded), []\n"
            "for n in range(3):\n    try: frappe.enqueue('probe.tasks.nothing', queue='long')\n"
            "    except theirs: answer.append(n)\n"
            "try: frappe_jobs.enqueue('probe.tasks.nothing', queue='long')\n"
            "except QueueOverloaded as error: answer.append(str(error)[:25])\n" + EMPTY
        )
    finally:
        bench.write_config(before)
    assert found == [2, "'max_queued_jobs' is 2, so"[:25]]


def test_at_front_when_starved_goes_before_what_waits(bench: FrappeBench) -> None:
    """Ours, or Frappe's own where its enqueue knows it."""
    found = bench.call(
        EMPTY + "few = frappe.enqueue('probe.tasks.nothing', queue='long')\n"
        "options = dict(queue='long', at_front_when_starved=True)\n"
        "last = frappe.enqueue('probe.tasks.nothing', **options)\nanswer = [last.get_position()]\n"
        "for _ in range(16): frappe.enqueue('probe.tasks.nothing', queue='long')\n"
        "job = frappe.enqueue('probe.tasks.nothing', **options)\n"
        "answer += [job.get_position(), job.kwargs['kwargs']]\n" + EMPTY
    )
    assert found == [1, 0, {}]


AWAY = """
import os
frappe.destroy()
os.environ[{variable!r}] = {url!r}
frappe.init(site={site!r}, sites_path="."); frappe.connect()
"""


each_broker = pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("FRAPPE_REDIS_QUEUE", "redis://127.0.0.1:1"),
        ("FRAPPE_CELERY_BROKER_URL", "amqp://127.0.0.1:1//"),
    ],
)


@each_broker
def test_a_broker_that_is_away_is_redis_pys_error_too(
    bench: FrappeBench, variable: str, url: str
) -> None:
    found = bench.call(
        AWAY.format(site=bench.site, variable=variable, url=url)
        + "from redis.exceptions import ConnectionError\nanswer = []\n"
        "for options in ({}, dict(job_id='one', deduplicate=True)):\n"
        "    try: frappe.enqueue('probe.tasks.nothing', **options)\n"
        "    except ConnectionError as error: answer.append(str(error))"
    )
    assert ["127.0.0.1:1" in one and "out of reach" in one for one in found] == [True, True]


@each_broker
def test_during_a_migrate_without_a_broker_the_method_is_called_here(
    bench: FrappeBench, variable: str, url: str
) -> None:
    found = bench.call(
        AWAY.format(site=bench.site, variable=variable, url=url)
        + "frappe.flags.in_migrate = True\n"
        "answer = frappe.enqueue('probe.tasks.echo', a=1)"
    )
    assert found == {"a": ["int", 1]}


def test_track_job_is_no_argument_of_the_method(bench: FrappeBench, worker: Process) -> None:
    """Where Frappe keeps Background Tasks itself, the error says how."""
    found = bench.call(
        WAIT + "try: job = frappe.enqueue('probe.tasks.echo', a=1, track_job=True); "
        "frappe.db.commit(); answer = wait(job).result\n"
        "except Exception as error: answer = str(error)"
    )
    assert found == {"a": ["int", 1]} or "frappe.enqueue_task keeps it" in found
