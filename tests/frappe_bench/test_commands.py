"""The commands of a bench, as its Procfile and its people have them."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from frappe_bench.bench import EMPTY, WAIT, FrappeBench

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(180)

FILL = EMPTY + """
for n in range(3):
    for queue in ("short", "long"):
        frappe.enqueue("probe.tasks.nothing", queue=queue, event="yearly" if n else None)
answer = [jobs.get_queue(name).count for name in ("short", "long")]
"""

COUNTS = """
from frappe.utils import background_jobs as jobs
answer = [jobs.get_queue(name).count for name in ("short", "long")]
"""


#: What process managers start, as far as it serves all queues; the lines for one queue differ from
#: these in nothing else.
LINES = [
    line
    for line in (Path(__file__).parents[1] / "data/bench_commands.txt").read_text().splitlines()
    if line in ("schedule", "worker") or {"short", "default", "long"} <= {*re.findall(r"\w+", line)}
]


@pytest.fixture(autouse=True)
def emptied(bench: FrappeBench) -> Iterator[None]:
    yield
    bench.run("use-celery", "on")
    bench.call(EMPTY)


@pytest.mark.parametrize(
    "command",
    [
        ("worker", "--queue", "short,long", "--burst"),
        ("worker", "--queue", "short,long", "--burst", "--quiet", "--strategy", "round_robin"),
        ("worker-pool", "--queue", "short,long", "--burst", "--num-workers", "2", "--quiet"),
    ],
    ids=" ".join,
)
def test_a_burst_runs_all_and_ends_with_rqs_word(
    bench: FrappeBench, command: tuple[str, ...]
) -> None:
    assert bench.call(FILL) == [3, 3]
    assert bench.call(FILL, site=bench.other_site) == [3, 3]
    bench.call("frappe.enqueue('probe.tasks.nothing', queue='long')")
    done = bench.run(*command)
    assert (done.returncode, "quitting" in done.stdout) == (0, True), done.stderr
    assert bench.call(COUNTS) == [0, 0]


@pytest.mark.parametrize("line", LINES)
def test_a_process_managers_line_runs_as_it_stands(bench: FrappeBench, line: str) -> None:
    """And ends by a SIGTERM to all of its processes, as some of them send it."""
    look = "wait(frappe.enqueue('probe.tasks.look', queue=name)).result['site']"
    with bench.process(*line.split()) as started:
        if line != "schedule":
            found = bench.call(WAIT + f"answer = [{look} for name in ('short', 'default', 'long')]")
            assert found == [bench.site] * 3
        os.killpg(started.process.pid, signal.SIGTERM)
        wait_until(lambda: started.process.poll() is not None, 30)
        assert started.process.returncode == 0, started.log


def test_a_worker_pool_keeps_the_scheduler_where_frappes_own_does(bench: FrappeBench) -> None:
    """Frappe 16's does; a bench of 15 has a process for it."""
    look = (
        "from frappe_jobs.frappe_bench.host.session import runtime\n"
        "answer = [hasattr(frappe.utils.background_jobs, 'FrappeWorker'), "
        "runtime().timetable.leader()]"
    )
    for option, asked in (((), None), (("--scheduler",), True), (("--no-scheduler",), False)):
        with bench.process("worker-pool", "--queue", "short", "--num-workers", "1", *option) as it:
            pid = it.process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            as_frappe, _ = bench.call(look)
            keeps = as_frappe if asked is None else asked
            assert len(children) == 1 + keeps
            if keeps:
                wait_until(lambda: bench.call(look)[1], 20)  # noqa: B023
                assert bench.call(look)[1].split("/")[1] in children
            assert it.stop() == 0


def test_options_of_rq_alone_are_taken_with_a_warning(bench: FrappeBench) -> None:
    done = bench.run("worker", "--queue", "short", "--burst", "-u", "me", "--rq-password", "secret")
    assert done.returncode == 0
    assert "--rq-username is for RQ's workers" in done.stderr
    assert "--rq-password is for RQ's workers" in done.stderr and "secret" not in done.stderr


def test_an_unknown_queue_is_wrong_usage(bench: FrappeBench) -> None:
    done = bench.run("worker", "--queue", "nowhere")
    assert done.returncode == 2 and "known: short, default, long" in done.stderr


def test_ready_for_migration_says_so_by_its_status(bench: FrappeBench) -> None:
    bench.call(EMPTY)
    ready = bench.run("--site", bench.site, "ready-for-migration")
    bench.call("frappe.enqueue('probe.tasks.nothing', queue='long')")
    busy = bench.run("ready-for-migration", "--site", bench.site)
    other = bench.run("ready-for-migration", "--site", bench.other_site)
    assert [one.returncode for one in (ready, busy, other)] == [0, 1, 0]
    assert busy.stdout.startswith("NOT READY for migration")


def test_purge_jobs_keeps_to_what_it_was_given_and_does_not_ask(bench: FrappeBench) -> None:
    assert bench.call(FILL) == [3, 3]
    done = bench.run("purge-jobs", "--site", bench.site, "--queue", "long", "--event", "yearly")
    assert (done.returncode, done.stdout.strip()) == (0, "Purged 2 jobs.")
    assert bench.call(COUNTS) == [3, 1]
    assert bench.run("--site", bench.other_site, "purge-jobs").stdout.strip() == "Purged 0 jobs."
    assert bench.run("purge-jobs").stdout.strip() == "Purged 4 jobs."
    assert bench.call(COUNTS) == [0, 0]


def test_show_pending_jobs_counts_by_method(bench: FrappeBench) -> None:
    bench.call(FILL)
    done = bench.run("--site", bench.site, "show-pending-jobs", "--format", "json")
    rows = [(row["queue"], row["methods"]) for row in json.loads(done.stdout)]
    assert rows == [("long", {"probe.tasks.nothing": 3}), ("short", {"probe.tasks.nothing": 3})]


def test_bench_execute_sends_to_our_queues(bench: FrappeBench) -> None:
    bench.call(EMPTY)
    done = bench.run("--site", bench.site, "execute", "probe.tasks.enqueue_look")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().strip('"').startswith((f"{bench.site}::", f"{bench.site}||"))
    assert bench.call(COUNTS) == [1, 0]


def test_trigger_scheduler_event_queues_it_once(bench: FrappeBench) -> None:
    made = (
        "frappe.delete_doc('Scheduled Job Type', 'tasks.tick', ignore_missing=True)\n"
        "frappe.get_doc({'doctype': 'Scheduled Job Type', 'method': 'probe.tasks.tick', "
        "'frequency': 'Daily'}).insert()\nfrappe.db.set_default('probe_ticks', '0')"
    )
    bench.call(made)
    trigger = ("--site", bench.site, "trigger-scheduler-event", "probe.tasks.tick")
    said = [bench.run(*trigger).stdout for _ in range(2)]
    assert said == [f"{bench.site}: probe.tasks.tick is queued.\n"] * 2
    missing = bench.run("--site", bench.site, "trigger-scheduler-event", "probe.tasks.nothing")
    assert missing.returncode == 1 and "names 0 scheduled jobs" in missing.stderr
    assert bench.run("worker", "--burst").returncode == 0
    assert bench.call("answer = frappe.db.get_default('probe_ticks')") == "1"
    bench.call("frappe.delete_doc('Scheduled Job Type', 'tasks.tick')")


def test_the_scheduler_switches_of_frappe_hold_for_ours(bench: FrappeBench) -> None:
    why = (
        "from frappe_jobs.frappe_bench.host.session import runtime\n"
        "answer = runtime().scheduling.inactive(frappe.local.site)"
    )
    said = []
    for state in ("pause", "resume", "disable", "enable"):
        done = bench.run("--site", bench.site, "scheduler", state)
        assert done.returncode == 0, done.stderr
        said.append(bench.call(why))
    assert said == ["paused", None, "disabled in its System Settings", None]


def test_a_broker_that_is_down_is_one_line(bench: FrappeBench) -> None:
    done = bench.run(
        "--site", bench.site, "ready-for-migration", FRAPPE_REDIS_QUEUE="redis://127.0.0.1:1"
    )
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1 and "127.0.0.1:1" in done.stderr


def test_a_bench_that_is_off_is_frappes_and_rqs(bench: FrappeBench) -> None:
    kind = (
        "job = frappe.enqueue('probe.tasks.nothing', queue='long')\n"
        "answer = type(job).__module__\njob.delete()"
    )
    assert bench.call(kind) == "frappe_jobs.frappe_bench.rq.job"
    off = bench.run("use-celery", "off")
    assert off.returncode == 0 and "Restart" in off.stdout
    assert bench.call(kind) == "rq.job"
    assert "--rq-username" in (helped := bench.run("worker", "--help").stdout)
    assert "--concurrency" not in helped
    assert bench.run("use-celery", "status").stdout.startswith("off: ")
    bench.run("use-celery", "on")
    assert bench.call(kind) == "frappe_jobs.frappe_bench.rq.job"


def test_the_first_worker_of_an_undecided_bench_switches_it_on(bench: FrappeBench) -> None:
    config = bench.config
    bench.write_config({key: value for key, value in config.items() if key != "extra_config"})
    assert bench.run("use-celery", "status").stdout.startswith("undecided")
    done = bench.run("worker", "--queue", "short", "--burst")
    assert done.returncode == 0 and "go to Celery from now on" in done.stderr
    assert bench.config == config


def test_a_web_request_sends_to_our_queues(bench: FrappeBench) -> None:
    """The first one of a process: the way in comes before any of Frappe's own code."""
    found = bench.call(
        "frappe.destroy()\nfrom werkzeug.test import Client\nimport frappe.app\n"
        f"frappe.app._site = {bench.site!r}\nfrappe.app._sites_path = '.'\n"
        "answer = Client(frappe.app.application).get('/api/method/probe.tasks.enqueue_look')"
        f".json['message']\nfrappe.init(site={bench.site!r}, sites_path='.'); frappe.connect()\n"
        "answer = [answer, [job.id for job in frappe.utils.background_jobs"
        ".get_queue('short').jobs]]"
    )
    job_id, waiting = found
    assert job_id in waiting and job_id.startswith((f"{bench.site}::", f"{bench.site}||"))


def test_kill_9_rolls_back_and_the_job_is_delivered_again(bench: FrappeBench) -> None:
    found = bench.call(
        WAIT + EMPTY + "import os, signal, subprocess, sys, tempfile, uuid\n"
        "text, path = uuid.uuid4().hex, tempfile.mktemp()\n"
        "job = frappe.enqueue('probe.tasks.write_and_wait', text=text, path=path, queue='short')\n"
        "command = [sys.executable, '-m', 'frappe.utils.bench_helper', 'frappe', 'worker', "
        "'--queue', 'short']\n"
        "env = os.environ | {'FRAPPE_JOBS_LEASE': '4'}\n"
        "def pids():\n"
        "    lines = open(path).read().splitlines() if os.path.exists(path) else []\n"
        "    return [json.loads(line)['pid'] for line in lines if 'pid' in line]\n"
        "def start(): return subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, "
        "stdout=subprocess.DEVNULL, start_new_session=True)\n"
        "def until(count):\n"
        "    end = time.time() + 60\n"
        "    while len(pids()) < count and time.time() < end: time.sleep(0.05)\n"
        "def rows():\n"
        "    frappe.db.rollback(); return frappe.db.count('ToDo', {'description': text})\n"
        "first = start(); until(1); os.killpg(first.pid, signal.SIGKILL); first.wait()\n"
        "answer = [rows(), job.get_status()]\nsecond = start(); until(2)\n"
        "open(path, 'a').write('\"go on\"\\n'); wait(job)\n"
        "answer += [rows(), job.get_status(), len(pids()), job._record.attempt]\n"
        "second.terminate(); second.wait(); os.unlink(path)"
    )
    assert found == [0, "started", 1, "finished", 2, 2]


def test_an_uninstall_takes_the_sites_entries_along_and_an_install_brings_them(
    bench: FrappeBench,
) -> None:
    count = (
        "from frappe_jobs.frappe_bench.host.session import runtime\n"
        "answer = [len(runtime().timetable.of_site(site)) for site in "
        f"({bench.site!r}, {bench.other_site!r})]"
    )
    site = ("--site", bench.other_site)
    bench.run("--site", "all", "migrate")
    ours, others = bench.call(count)  # the sites may have other apps
    assert ours > 0 and others > 0
    done = bench.run(*site, "uninstall-app", "frappe_jobs", "--yes", "--no-backup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bench.call(count) == [ours, 0]
    assert bench.run("use-celery", "status").stdout.startswith("on: ")  # for the other site
    assert bench.run(*site, "install-app", "frappe_jobs").returncode == 0
    assert bench.call(count) == [ours, others]


def test_the_doctor_is_ours_and_keeps_to_its_site(bench: FrappeBench) -> None:
    bench.call("frappe.enqueue('probe.tasks.nothing', queue='long')")
    done = bench.run("--site", bench.site, "doctor", "--format", "json")
    found = {one["what"]: one["level"] for one in json.loads(done.stdout)}
    assert [level for what, level in found.items() if "No worker is online for" in what] == [
        "error"
    ]
    assert not any(bench.other_site in what for what in found)
    assert (done.returncode, done.stderr) == (1, "")
