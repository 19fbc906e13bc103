"""A bench that goes back to RQ, for a while or for good, and what of ours is left then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import redis
from frappe_bench.bench import FrappeBench
from frappe_bench.test_commands import FILL

pytestmark = pytest.mark.timeout(400)

#: RQ's workers have this option, ours have another one.
RQS, OURS = "--rq-username", "--concurrency"


@pytest.fixture(autouse=True)
def on_again(bench: FrappeBench) -> Iterator[None]:
    yield
    for site in dict.fromkeys([bench.site, bench.other_site]):
        if "frappe_jobs" not in bench.call("answer = frappe.get_installed_apps()", site=site):
            done = bench.run("--site", site, "install-app", "frappe_jobs")
            assert done.returncode == 0, done.stdout + done.stderr
    assert bench.run("use-celery", "on").returncode == 0


def uninstall(bench: FrappeBench, *, left_waiting: str = "") -> str:
    """From all sites; what the last one says."""
    *others, last = dict.fromkeys([bench.site, bench.other_site])
    for site in others:
        uninstall_from(bench, site)
    # Each enqueues something for its own database.
    assert bench.run("worker", "--burst").returncode == 0
    if left_waiting:
        bench.call(left_waiting, site=last)
    return uninstall_from(bench, last)


def uninstall_from(bench: FrappeBench, site: str) -> str:
    done = bench.run("--site", site, "uninstall-app", "frappe_jobs", "--yes", "--no-backup")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def use(bench: FrappeBench) -> None:
    """Leave all that can be left: of jobs, of the schedule, of a worker that is killed."""
    bench.call(
        "from frappe_jobs.frappe_bench.host.session import runtime\nruntime().sync.compare()\n"
        "frappe.enqueue('probe.tasks.write_todo', text='x', fail=True)\n"
        "frappe.enqueue('probe.tasks.look', job_id='left')"
    )
    with bench.process("schedule"):
        pass
    assert bench.run("worker", "--burst").returncode == 0
    with bench.process("worker", "--queue", "short") as worker:
        os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()


def left(bench: FrappeBench) -> list[str]:
    """The bench's keys in Redis; and kombu's, which is nobody else's there."""
    bench_id = bench.bench_id
    with redis.Redis.from_url(bench.config["redis_queue"], decode_responses=True) as client:
        keys = sorted(client.scan_iter())
    return [
        key for key in keys if not key.startswith("rq:") and (bench_id in key or "_kombu" in key)
    ]


def help_of(bench: FrappeBench, command: str) -> str:
    done = bench.run(command, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_after_the_last_uninstall_nothing_is_left_and_nothing_switches_the_bench(
    bench: FrappeBench,
) -> None:
    use(bench)
    assert left(bench)
    said = uninstall(bench)
    assert left(bench) == [], said
    config = bench.config
    assert not {"extra_config", "frappe_jobs_off"} & config.keys()
    assert bench.run("use-celery", "status").stdout.startswith("undecided: ")
    # apps.txt still lists it: with no site that has the app all of this is Frappe's and RQ's.
    assert RQS in (said := help_of(bench, "worker")) and OURS not in said
    assert "--scheduler" not in help_of(bench, "worker-pool")
    assert "--format" not in help_of(bench, "show-pending-jobs")
    bench.call("frappe.enqueue('frappe.ping', queue='short')")
    done = bench.run("worker", "--queue", "short", "--burst")
    assert done.returncode == 0 and "Celery" not in done.stdout + done.stderr
    assert (bench.config, left(bench)) == (config, [])


def test_jobs_that_wait_are_no_uninstalls_to_drop(bench: FrappeBench) -> None:
    said = uninstall(bench, left_waiting=FILL)
    assert "6 jobs that wait" in said and "bench use-celery off --forget" in said
    assert left(bench)
    done = bench.run("use-celery", "off", "--forget")
    assert (done.returncode, done.stderr) == (
        0,
        "",
    ) and "6 of the removed jobs were waiting" in done.stdout
    assert left(bench) == []


def test_off_is_remembered_until_somebody_says_on(bench: FrappeBench) -> None:
    assert bench.run("use-celery", "off").returncode == 0
    uninstall(bench)
    assert bench.run("use-celery", "status").stdout.startswith("off: ")
    assert RQS in help_of(bench, "worker")
    done = bench.run("--site", bench.site, "install-app", "frappe_jobs")
    assert done.returncode == 0 and "bench use-celery on" in done.stdout, done.stdout + done.stderr
    assert bench.run("use-celery", "status").stdout.startswith("off: ")
    assert RQS in help_of(bench, "worker")


def test_nothing_is_forgotten_while_somebody_uses_it(bench: FrappeBench) -> None:
    use(bench)
    with bench.process("worker", "--queue", "short"), bench.process("schedule"):
        done = bench.run("use-celery", "off", "--forget")
        assert done.returncode == 1 and "Stop the bench's workers" in done.stderr
    assert bench.run("use-celery", "status").stdout.startswith("on: ")
    assert bench.run("use-celery", "off", "--forget").returncode == 0
    assert left(bench) == []
    assert bench.run("use-celery", "on", "--forget").returncode == 2
