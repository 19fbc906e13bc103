"""``frappe-jobs doctor`` as people and scripts use it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import time

import pytest
import redis
from acme import tasks
from doctored import beginning_with

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.testing import wait_until

DAILY = 'app_name = "acme"\nscheduler_events = {"daily": ["acme.tasks.ping"]}\n'


@pytest.fixture
def bench(make_bench, server):
    """On a Redis of its own, which keeps everything; its sites have a scheduled job each."""
    bench = make_bench(redis_queue=embedded.running(server))
    (bench.path / "acme" / "hooks.py").write_text(DAILY)
    bench.run("--site", "all", "migrate")
    return bench


def lines(done, level):
    return [line for line in done.stdout.splitlines() if line.startswith(f"{level} ")]


def test_a_bench_that_is_well_has_nothing_but_ok_also_when_it_is_strict(bench):
    with bench.worker(), bench.process("schedule") as scheduler:
        wait_until(lambda: "this scheduler leads" in scheduler.log, 10)
        began = time.monotonic()
        done = bench.run("doctor", "--strict")
        assert time.monotonic() - began < 12  # on a busy machine
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        *rows, last = done.stdout.splitlines()
        assert rows == lines(done, "ok")
        assert last == f"0 errors, 0 warnings, {len(rows)} ok."
        assert len(rows) >= 10
        found = json.loads(bench.run("doctor", "--format", "json").stdout)
        assert len(found) == len(rows)
        assert {tuple(one) for one in found} == {("level", "what", "cure", "mendable")}


def test_a_warning_is_exit_status_1_only_when_it_is_strict_and_an_error_always(bench):
    bench.run("--site", "all", "scheduler", "disable")
    done = bench.run("doctor")
    assert (done.returncode, lines(done, "error")) == (0, [])
    assert lines(done, "warning") == [
        "warning  No worker is online: no job runs.  -> Start one: frappe-jobs worker."
    ]
    assert bench.run("doctor", "--strict").returncode == 1
    bench.run("--site", "site1", "scheduler", "enable")
    done = bench.run("doctor", "--site", "site1")
    assert (done.returncode, len(lines(done, "error"))) == (1, 1)
    assert bench.run("--site", "site2", "doctor").returncode == 0
    assert bench.run("doctor", "--site", "nowhere").returncode == 2


def test_fix_mends_what_is_safe_says_so_and_leaves_nothing_of_it(bench):
    bench.use()
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping, job_id="lost")
    here = runtime.current()
    here.ledger.redis.zadd(here.ledger._key("waiting", "default"), {job.message_id: 1})
    with redis.Redis.from_url(here.in_force.redis_url) as server:
        assert server.delete(f"{bench.id}:default\x06\x166")
        for key in server.scan_iter(f"*{bench.id}*redbeat*"):
            server.delete(key)
    before = bench.run("doctor")
    assert "the broker has lost: lost (acme.tasks.ping on site1)" in before.stdout
    assert sum("RedBeat's entries" in line for line in lines(before, "warning")) == 2
    fixed = bench.run("doctor", "--fix")
    assert sum("Mended: " in line for line in lines(fixed, "ok")) == 3
    after = bench.run("doctor")
    assert "lost" not in after.stdout and "RedBeat's entries" not in after.stdout
    assert "2 sites with 2 scheduled jobs" in after.stdout
    assert bench.run("worker", "--queue", "default", "--burst").returncode == 0
    assert job.wait(5) == "pong"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"redis_queue": "redis://127.0.0.1:1"}, "Redis at redis://127.0.0.1:1 is out of reach"),
        ({"celery_broker_url": "amqp://127.0.0.1:1//"}, "The broker amqp://127.0.0.1:1// is out"),
        ({"redis_queue": None}, "No broker is configured"),
        ({"redis_queue": "http://127.0.0.1"}, "are not supported"),
        ({"workers": 3}, "'workers' must be"),
        ({"frappe_jobs_celery_app": "nope"}, "importing it failed"),
    ],
)
def test_what_keeps_it_from_looking_is_a_finding_too(make_bench, config, said):
    bench = make_bench(**config)
    bench.amqp_url = None
    began = time.monotonic()
    done = bench.run("doctor", "--format", "json")
    assert time.monotonic() - began < 12  # on a busy machine
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert [one["what"] for one in found if one["level"] == "error" and said in one["what"]]


def test_a_configuration_that_is_no_json_is_a_finding_too(make_bench):
    bench = make_bench()
    bench.write("common_site_config.json", "{half")
    done = bench.run("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert "common_site_config.json, line 1, column 2: not JSON" in done.stdout


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("frappe_jobs.standalone.host", "error    frappe_jobs' host without Frappe cannot be "),
        ("sqlalchemy.event", "error    frappe_jobs' host without Frappe cannot be "),
        ("frappe_jobs.brokers.redis", "error    frappe_jobs' broker on Redis cannot be "),
        ("frappe_jobs.rows.findings", "Error: The command doctor cannot be "),
    ],
)
def test_a_module_that_cannot_be_imported_is_said_in_a_line(make_bench, module, said):
    """As after half an upgrade; whatever the module raises."""
    bench = make_bench()
    with beginning_with(bench, f"import sys\nsys.modules[{module!r}] = None\n"):
        done = bench.run("doctor")
    assert done.returncode == 1
    (line,) = [one for one in (done.stdout + done.stderr).splitlines() if "imported" in one]
    assert line.startswith(said) and module in line and ".py, line " in line, line
    assert "Traceback" not in done.stdout + done.stderr


def test_the_level_has_a_colour_on_a_terminal_only(bench):
    assert "\x1b[" not in bench.run("doctor").stdout
    parent, child = pty.openpty()
    bench.variables["TERM"] = "xterm"
    process = bench.start(["doctor"], bench.path, bench.environment, 0, child, 2)
    os.close(child)
    said = b""
    try:
        while part := os.read(parent, 65536):
            said += part
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(parent)
    assert process.wait(20) == 1
    assert said.startswith(b"\x1b[31merror  \x1b[0m  No scheduler")
    assert b"\x1b[32mok     \x1b[0m" in said


def test_scan_reads_the_apps_source_and_needs_no_server(make_bench):
    bench = make_bench(redis_queue="redis://127.0.0.1:1")
    code = "raise SystemExit\nimport frappe_jobs\nfrappe_jobs.enqueue('acme.a', x=lambda: 1)\n"
    (bench.path / "acme" / "later.py").write_text(code)
    done = bench.run("doctor", "--scan")
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(done, "warning") == [
        "warning  acme/later.py:3: frappe_jobs.enqueue: the argument x cannot travel as JSON: "
        "it is a lambda.  -> Make it a function at the top of a module; send its path."
    ]
    assert bench.run("doctor", "--scan", "--strict").returncode == 1
    (bench.path / "acme" / "later.py").unlink()
    done = bench.run("--site", "site1", "doctor", "--scan", "--strict", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["level"] for one in json.loads(done.stdout)] == ["ok"]
    assert bench.run("doctor", "--scan", "--fix").returncode == 2


def test_jobs_of_the_release_before_are_named_and_its_cure_runs_them(
    make_bench, broker_urls, tmp_path
):
    url, *amqp = broker_urls
    bench = make_bench(bench_id=None, **({"celery_broker_url": amqp[0]} if amqp else {}))
    root = tmp_path / bench.id
    for release in ("1", "2"):
        shutil.copytree(bench.path, root / "releases" / release)
    current = root / "current"
    current.symlink_to("releases/1")
    bench.path, bench.sites = current, current / "sites"
    assert bench.run("--site", "site1", "enqueue", "acme.tasks.ping").returncode == 0
    current.unlink()
    current.symlink_to("releases/2")
    before, now = (f"{root}/releases/{one}".strip("/").replace("/", "-") for one in "12")
    done = bench.run("doctor")
    assert f"under other bench ids, which no worker serves: '{before}' (1 job)" in done.stdout
    assert f"this bench's id is '{now}'" in done.stdout
    assert (done.returncode, f"FRAPPE_BENCH_ID={before} frappe-jobs" in done.stdout) == (1, True)
    bench.variables["FRAPPE_BENCH_ID"] = before
    with bench.worker("--queue", "short"):  # somebody serves them
        del bench.variables["FRAPPE_BENCH_ID"]
        assert before not in bench.run("doctor").stdout
    bench.variables["FRAPPE_BENCH_ID"] = before
    try:
        assert "succeeded" in bench.run("worker", "--burst").stderr
    finally:
        del bench.variables["FRAPPE_BENCH_ID"]
        for bench_id in (before, now):
            bench.id = bench_id
            bench.remove_queues()
    assert before not in bench.run("doctor").stdout
