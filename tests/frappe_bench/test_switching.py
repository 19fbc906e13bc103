"""A bench that works all the while goes from RQ to Celery, and back."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import randrange

import pytest
from frappe_bench.bench import CLEAR, FrappeBench, Process, read_notes
from frappe_bench.test_leaving import uninstall_from

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(900)

#: Seconds in which a bench is to be switched.
TEN_MINUTES = 600

#: Sends job after job until somebody creates the file ``end``, each as a web request does; slowly
#: while many wait, as on a busy machine RQ's worker would come to the queue long no more.
CLIENT = """
import os, sys, time, threading, frappe
site, path, end = sys.argv[1:]
print("ready", flush=True)
n, pause = 0, threading.Event()
while not os.path.exists(end):
    frappe.init(site=site, sites_path="."); frappe.connect()
    queue = ("short", "default", "long")[n % 3]
    frappe.enqueue("probe.tasks.note", queue=queue, path=path, n=n, enqueue_after_commit=n % 2)
    frappe.db.commit(); frappe.destroy()
    n += 1
    ran = open(path).read().count('"n":') if os.path.exists(path) else 0
    pause.wait(0.1 if n - ran < 30 else 3)
print("sent", n, flush=True)
"""

#: Runs on RQ; when it ends it sends a job from a process that knew nothing of the switch.
LONG = "frappe.enqueue('probe.tasks.wait_and_send', queue='long', text='long', path={path!r})"

#: With RQ's own functions under Frappe's, whatever the bench's switch says.
ON_RQ = """
from frappe_jobs.frappe_bench import way_in
from frappe_jobs.frappe_bench.rq import transport
way_in.use_celery = dict  # each enqueue of Frappe 17's reads the configuration, which calls it
transport.uninstall()
"""
KEPT_ON_RQ = """
import frappe.utils.background_jobs
answer = [job.decode() for job in frappe.utils.background_jobs.get_redis_conn().lrange(
    'rq:queue:' + frappe.utils.get_bench_id() + ':long', 0, -1)]
"""
CARRY = """
from frappe_jobs.frappe_bench.rq.carry_over import carry_over
frappe.destroy()
found = carry_over()
frappe.init(site={site!r}, sites_path="."); frappe.connect()
answer = [found.count, found.refused]
"""


#: Stops what is scheduled on a site, and says what that was.
STOP_ALL = """
from frappe_jobs.frappe_bench.host.session import runtime
answer = frappe.get_all('Scheduled Job Type', {'stopped': 0}, pluck='name')
frappe.db.sql('update `tabScheduled Job Type` set stopped = 1')
frappe.db.commit(); frappe.clear_cache(); runtime().sync.compare([frappe.local.site])
"""
START_AGAIN = """
from frappe_jobs.frappe_bench.host.session import runtime
for name in {names!r}:
    frappe.db.set_value('Scheduled Job Type', name, 'stopped', 0)
frappe.db.commit(); frappe.clear_cache(); runtime().sync.compare([frappe.local.site])
"""
#: A daily job that is due: each due time is queued once, and remembered for a day.  And once more.
DUE = """
doc = frappe.get_doc(dict(
    doctype='Scheduled Job Type', method='probe.tasks.tick', frequency='Daily')).insert()
doc.db_set('last_execution', frappe.utils.add_days(None, -{days}))
answer = doc.name
"""
DUE_AGAIN = """
frappe.db.set_value('Scheduled Job Type', {name!r}, 'last_execution',
                    frappe.utils.add_days(None, -2))
"""
TICKS = "frappe.db.rollback(); answer = frappe.db.get_default('probe_ticks')"


@pytest.fixture(autouse=True)
def no_schedule(bench: FrappeBench) -> Iterator[None]:
    """What is due on these sites is another test's; at the end the bench is on Celery again."""
    config = bench.config
    bench.write_config(config | {"pause_scheduler": 1})
    yield
    for site in dict.fromkeys([bench.site, bench.other_site]):
        if "frappe_jobs" not in bench.call("answer = frappe.get_installed_apps()", site=site):
            assert bench.run("--site", site, "install-app", "frappe_jobs").returncode == 0
    bench.write_config(config)
    bench.run("purge-jobs")


@contextmanager
def rqs_worker(bench: FrappeBench, queues: str = "short,default,long") -> Iterator[Process]:
    process = Process(bench, "worker", "--queue", queues)
    try:
        wait_until(lambda: "Listening on" in process.log or process.process.poll() is not None, 60)
        assert process.process.poll() is None, process.log
        yield process
    finally:
        process.stop()


@contextmanager
def rqs_schedule(bench: FrappeBench) -> Iterator[Process]:
    process = Process(bench, "schedule")
    try:
        yield process
        assert process.process.poll() is None, process.log
    finally:
        process.stop()


@contextmanager
def client(bench: FrappeBench, notes: Path) -> Iterator[Process]:
    end = notes.with_name("end")
    with bench.process(bench.site, str(notes), str(end), code=CLIENT) as process:
        try:
            yield process
        finally:
            end.touch()
            process.process.wait(60)
            end.unlink()


def sent_by(process: Process) -> int:
    wait_until(lambda: any(line.startswith("sent ") for line in process.lines), 20)
    return int(process.lines[-1].split()[1])


def runs(notes: Path) -> list[int]:
    """The numbers of the jobs that ran, in their order."""
    return [one["n"] for one in read_notes(notes) if "n" in one]


def goes_on_to(process: Process, start: str, timeout: float = 300) -> None:
    def is_there() -> bool:
        return any(line.startswith(start) for line in process.lines)

    wait_until(lambda: is_there() or process.process.poll() is not None, timeout)
    assert is_there(), process.log


def ended(process: Process, timeout: float = 300) -> int:
    return process.process.wait(timeout)


def drain(bench: FrappeBench, wanted: str, within: int = 240) -> Process:
    return Process(bench, "use-celery", wanted, "--drain", "--within", str(within))


def test_a_bench_is_switched_while_a_client_keeps_sending(bench: FrappeBench, notes: Path) -> None:
    for site in dict.fromkeys([bench.site, bench.other_site]):
        uninstall_from(bench, site)
    assert bench.run("use-celery", "status").stdout.startswith("undecided")
    long_path = notes.with_name("long")
    with (
        rqs_worker(bench, "short,default") as quick,
        rqs_worker(bench, "long") as busy,
        client(bench, notes) as sending,
    ):
        began = time.monotonic()
        wait_until(lambda: bool(runs(notes)), 60)
        bench.call(LONG.format(path=str(long_path)))
        wait_until(long_path.exists, 60)
        # It is killed while it installs, and once more right behind the switch.
        for line in ("  Install ", "2. Switch"):
            command = drain(bench, "on")
            goes_on_to(command, line)
            os.killpg(command.process.pid, signal.SIGKILL)
            ended(command)
        command = drain(bench, "on")
        goes_on_to(command, "3. Restart")
        # What waited behind the long job is on Celery by now.
        assert re.search(r"(?m)^  Carried over from RQ: [1-9]", command.log), command.log
        for old in (quick, busy):
            old.process.send_signal(signal.SIGTERM)  # RQ's workers wait for the job that runs
        with (
            bench.process("worker", "--queue", "short,default"),
            bench.process("worker", "--queue", "long"),
            bench.process("schedule"),
        ):
            goes_on_to(command, "  Waiting: RQ's worker")
            with long_path.open("a") as file:
                file.write('"go on"\n')
            assert ended(command) == 0, command.log
            assert time.monotonic() - began < TEN_MINUTES
            assert re.search(r"(?m)^  long: ran after ", command.log), command.log
            after = len(runs(notes))
            wait_until(lambda: len(runs(notes)) > after, 60)
            notes.with_name("end").touch()
            number = sent_by(sending)
            wait_until(lambda: len(runs(notes)) >= number + 1, 120)
    assert Counter(runs(notes)) == Counter([*range(number), -1])
    assert "frappe_jobs_draining" not in bench.config
    assert bench.run("use-celery", "status").stdout.startswith("on: ")


def test_and_back_with_jobs_that_wait(bench: FrappeBench, notes: Path) -> None:
    """Nobody runs what waits on Celery; and the client began before the switch."""
    look = (
        "answer = [frappe.enqueue('probe.tasks.nothing', queue='long', job_id='once', "
        "deduplicate=True) is None, frappe.utils.background_jobs.is_job_enqueued('once')]"
    )
    assert bench.call(look) == [False, True]
    with client(bench, notes) as sending:
        pending = ("show-pending-jobs", "--site", bench.site)
        wait_until(lambda: "probe.tasks.note" in bench.run(*pending).stdout, 60)
        command = drain(bench, "off")
        goes_on_to(command, "2. Switch")
        wait_until(lambda: bool(bench.config.get("frappe_jobs_off")), 20)
        os.killpg(command.process.pid, signal.SIGKILL)
        ended(command)
        assert bench.call(look) == [True, True]  # on Celery, and a new process finds it there
        command = drain(bench, "off")
        goes_on_to(command, "3. Restart")
        with rqs_worker(bench):
            assert ended(command) == 0, command.log
            notes.with_name("end").touch()
            number = sent_by(sending)
            wait_until(lambda: len(runs(notes)) >= number, 120)
    assert Counter(runs(notes)) == Counter(range(number))
    assert "No worker of ours is left: one begins" in command.log
    assert not {"extra_config", "frappe_jobs_draining"} & bench.config.keys()
    assert bench.run("use-celery", "status").stdout.startswith("off: ")
    assert bench.run("use-celery", "on").returncode == 0


@pytest.fixture
def only_the_probes_schedule(bench: FrappeBench) -> Iterator[None]:
    """Nothing of the sites' own is due, and what is due is queued."""
    stopped = {}
    for site in dict.fromkeys([bench.site, bench.other_site]):
        stopped[site] = bench.call(STOP_ALL, site=site)
    paused = bench.config
    bench.write_config(paused | {"pause_scheduler": 0, "scheduler_tick_interval": 2})
    try:
        yield
    finally:
        bench.write_config(paused)
        for site, names in stopped.items():
            bench.call(CLEAR + START_AGAIN.format(names=names), site=site)


def test_and_back_beside_live_workers_of_ours_and_the_schedule(
    bench: FrappeBench, notes: Path, only_the_probes_schedule: None
) -> None:
    long_path = notes.with_name("long")
    with (
        bench.process("worker", "--queue", "short,default") as quick,
        bench.process("worker", "--queue", "long") as busy,
        bench.process("schedule") as scheduler,
        client(bench, notes) as sending,
    ):
        daily = bench.call(DUE.format(days=randrange(300, 9000)))
        wait_until(lambda: bench.call(TICKS) == "1", 120)
        wait_until(lambda: bool(runs(notes)), 60)
        bench.call(LONG.format(path=str(long_path)))
        wait_until(long_path.exists, 60)
        command = drain(bench, "off")
        goes_on_to(command, "  Waiting: a scheduler of ours leads")
        assert scheduler.stop() == 0
        goes_on_to(command, "  Waiting: on Celery there wait")
        os.killpg(command.process.pid, signal.SIGKILL)
        ended(command)
        bench.call(DUE_AGAIN.format(name=daily))  # nobody queues it in between
        command = drain(bench, "off")
        goes_on_to(command, "  Waiting: on Celery there wait")
        assert "1. Stop bench schedule" not in command.log  # it is
        with long_path.open("a") as file:
            file.write('"go on"\n')
        goes_on_to(command, "3. Restart")
        assert "one begins" not in command.log  # ours have run what waited
        for old in (quick, busy):
            assert old.stop() == 0
        with rqs_worker(bench), rqs_schedule(bench):
            assert ended(command) == 0, command.log
            wait_until(lambda: bench.call(TICKS) == "2", 120)
            notes.with_name("end").touch()
            number = sent_by(sending)
            wait_until(lambda: len(runs(notes)) >= number + 1, 120)
            assert bench.call(TICKS) == "2"
    assert Counter(runs(notes)) == Counter([*range(number), -1])
    assert bench.run("use-celery", "status").stdout.startswith("off: ")
    assert bench.run("use-celery", "on").returncode == 0


def test_jobs_that_cannot_be_carried_over_are_an_exit_status_and_the_cure_runs_them(
    bench: FrappeBench, notes: Path
) -> None:
    assert bench.run("use-celery", "off").returncode == 0
    refused, late = bench.call(
        "import probe.tasks as tasks\n"
        "jobs = [frappe.enqueue(tasks.note_of, queue='long', letters=tasks.Letters('me'), "
        f"path={str(notes)!r}, n=n) for n in (0, 1)]\n"
        f"frappe.enqueue(tasks.note, queue='long', path={str(notes)!r}, n=2)\n"
        "answer = [job.id for job in jobs]"
    )
    command = drain(bench, "on")
    goes_on_to(command, "3. Restart")
    with bench.process("worker"), bench.process("schedule"):
        assert ended(command) == 1, command.log
        for one in (refused, late):
            assert (
                f"  {one} stays on RQ: an argument is a probe.tasks.Letters, which" in command.log
            )
        (said,) = [one for one in command.lines if one.startswith("Error: ")]
        assert "stays on RQ: 2 jobs" in said and runs(notes) == [2]
        off, burst, on = [one.split() for one in re.findall(r"bench ([^;.]+)[;.]", said)]
        for one in (off, burst):
            assert bench.run(*one).returncode == 0, one
        assert runs(notes) == [2, 0, 1] and bench.call(ON_RQ + KEPT_ON_RQ) == []
        # Who sends a job before the bench is on Celery again sends it to RQ.
        bench.call(f"frappe.enqueue('probe.tasks.note', queue='long', path={str(notes)!r}, n=3)")
        done = bench.run(*on)
        assert done.returncode == 0, done.stdout + done.stderr
        wait_until(lambda: runs(notes) == [2, 0, 1, 3], 40)
    assert bench.run("use-celery", "status").stdout.startswith("on: ")


def test_a_carry_over_that_is_killed_loses_and_repeats_nothing(
    bench: FrappeBench, notes: Path
) -> None:
    """Killed again and again while it carries over, with a worker that runs what came already."""
    bench.call(
        f"{ON_RQ}for n in range(200):\n"
        f"    frappe.enqueue('probe.tasks.note', queue='long', path={str(notes)!r}, n=n)"
    )
    code = (
        "import sys, frappe\nfrom frappe_jobs.frappe_bench.rq.carry_over import carry_over\n"
        "print('ready', flush=True)\ncarry_over()"
    )
    with bench.process("worker", "--queue", "long"):
        for seen in (1, 40, 80, 120):
            with bench.process(code=code) as carrying:
                wait_until(
                    lambda: len(runs(notes)) >= seen  # noqa: B023
                    or carrying.process.poll() is not None,  # noqa: B023
                    60,
                )
                os.killpg(carrying.process.pid, signal.SIGKILL)
        count, refused = bench.call(CARRY.format(site=bench.site))
        wait_until(lambda: len(runs(notes)) >= 200, 60)
    assert refused == {} and count < 200
    assert runs(notes) == [*range(200)]
    assert bench.call(ON_RQ + KEPT_ON_RQ) == []


def test_a_pickle_that_names_more_than_plain_types_stays_on_rq(
    bench: FrappeBench, notes: Path
) -> None:
    evil, doc = notes.with_name("evil"), "frappe.get_doc('User', 'Administrator')"
    ids = bench.call(
        f"{ON_RQ}import pickle, os, uuid, zlib, datetime, probe.tasks as tasks\n"
        "jobs = [frappe.enqueue(tasks.describe, queue='long', document=one, job_id=name)\n"
        f"        for name, one in (('doc', {doc}), ('object', tasks.Letters('me')))]\n"
        "jobs.append(frappe.enqueue('probe.tasks.echo', queue='long', a=(1, {2}), b={3: 4.5},\n"
        "    c=datetime.datetime(2026, 1, 2), d=frappe._dict(e=b'x'), on_success=tasks.nothing))\n"
        "class Evil:\n"
        f"    def __reduce__(self): return os.system, ('touch {evil}',)\n"
        "jobs.append(frappe.enqueue('probe.tasks.nothing', queue='long', job_id='evil'))\n"
        "call = {'site': frappe.local.site, 'method': 'probe.tasks.nothing',\n"
        "        'kwargs': {'a': Evil()}}\n"
        "data = pickle.dumps(('frappe.utils.background_jobs.execute_job', None, (), call))\n"
        "redis = frappe.utils.background_jobs.get_redis_conn()\n"
        "redis.hset('rq:job:' + jobs[-1].id, 'data', data)\n"
        "bombs = (zlib.compress(bytes(10**9)), pickle.dumps((\n"
        "    'frappe.utils.background_jobs.execute_job', None, (), call | {'kwargs': {\n"
        "        'a': [['x' * 10**6] * 10] * 10**4}})))\n"
        "for bomb in bombs:\n"
        "    jobs.append(frappe.enqueue('probe.tasks.nothing', queue='long'))\n"
        "    redis.hset('rq:job:' + jobs[-1].id, 'data', bomb)\n"
        "answer = [job.id for job in jobs]"
    )
    count, refused = bench.call(CARRY.format(site=bench.site))
    assert (count, [*refused]) == (2, [ids[1], *ids[3:]]), refused
    assert "probe.tasks.Letters, which is no document" in refused[ids[1]]
    assert "cannot be read without running it" in refused[ids[3]] and not evil.exists()
    assert "holds over 10485760 bytes when it is unpacked" in refused[ids[4]]
    assert "larger than the setting 'frappe_jobs_max_message_size' allows" in refused[ids[5]]
    assert bench.call(ON_RQ + KEPT_ON_RQ) == [ids[1], *ids[3:]]
    assert bench.run("worker", "--queue", "long", "--burst").returncode == 0
    found = bench.call(
        f"answer = [frappe.utils.background_jobs.Job.fetch(one).return_value() for one in "
        f"({ids[0]!r}, {ids[2]!r})]"
    )
    assert found[0]["doctype"] == "User" and found[0]["name"] == "Administrator"
    assert found[1]["a"][0] == "tuple" and found[1]["d"] == ["_dict", {"e": "b'x'"}]
    bench.call(f"{ON_RQ}frappe.utils.background_jobs.get_queue('long').empty()")


def test_while_a_bench_is_switched_an_id_that_waits_on_rq_is_taken(bench: FrappeBench) -> None:
    one = "frappe.enqueue('probe.tasks.nothing', queue='long', job_id='once', deduplicate=True)"
    look = f"answer = [{one} is None, frappe.utils.background_jobs.is_job_enqueued('once')]"
    config = bench.config
    bench.call(ON_RQ + one)
    try:
        bench.write_config(config | {"frappe_jobs_draining": True})
        assert bench.call(look) == [True, True]
        assert bench.call(CARRY.format(site=bench.site)) == [1, {}]
        assert bench.call(look) == [True, True]
        said = json.loads(bench.run("doctor", "--format", "json").stdout)
        cures = [one["cure"] for one in said if "has not come to its end" in one["what"]]
        assert cures == ["bench use-celery on --drain goes on from there."]
    finally:
        bench.write_config(config)
    assert bench.run("worker", "--queue", "long", "--burst").returncode == 0
    assert bench.call(look)[0] is False


def test_what_drain_goes_with(bench: FrappeBench) -> None:
    for wrong in (("status", "--drain"), ("off", "--drain", "--forget")):
        assert bench.run("use-celery", *wrong).returncode == 2
