"""``bench doctor`` between RQ and Celery, and what it reads in Frappe's own source."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from frappe_bench.bench import FrappeBench, Process

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(180)

TO_RQ = """
from frappe_jobs.frappe_bench.rq import transport
transport.uninstall()
frappe.enqueue('frappe.ping', queue='long')
"""


def said(bench: FrappeBench) -> dict[str, str]:
    """What ``bench doctor`` says, and how bad it is."""
    done = bench.run("doctor", "--format", "json")
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return {one["what"]: one["level"] for one in json.loads(done.stdout)}


def left_on_rq(bench: FrappeBench) -> tuple[str, str]:
    """What it says of jobs that wait in RQ's queue ``long``, and how bad that is."""
    found = [one for one in said(bench).items() if one[0].startswith("Jobs wait in RQ's")]
    return next((one for one in found if "long" in one[0]), ("", ""))


@pytest.fixture
def switched_back(bench: FrappeBench) -> Iterator[FrappeBench]:
    yield bench
    assert bench.run("use-celery", "on").returncode == 0


def test_jobs_that_were_left_on_rq_are_told_and_the_cure_runs_them(
    switched_back: FrappeBench,
) -> None:
    bench = switched_back
    assert left_on_rq(bench) == ("", "")
    bench.call(TO_RQ)
    text, level = left_on_rq(bench)
    assert text.endswith("long 1.") and level == "error"
    with bench.process("worker"), bench.process("schedule"):
        done = bench.run("use-celery", "on", "--drain", "--within", "60")
    assert re.search("Carried over from RQ: [1-9]", done.stdout), done.stdout + done.stderr
    assert left_on_rq(bench) == ("", "")


def test_rqs_workers_that_still_run_after_the_switch_are_told(switched_back: FrappeBench) -> None:
    bench = switched_back
    assert bench.run("use-celery", "off").returncode == 0
    stock = Process(bench, "worker", "--queue", "long")
    try:
        wait_until(lambda: "Listening on" in stock.log or stock.process.poll() is not None, 40)
        assert bench.run("use-celery", "on").returncode == 0
        found = said(bench)
        (text,) = [what for what in found if "of RQ (" in what]
        assert text.startswith("The jobs go to Celery, but only RQ's are run: 1 worker of RQ (")
        assert found[text] == "error"
    finally:
        stock.stop()
    assert not [what for what in said(bench) if "of RQ (" in what]


def test_our_workers_that_run_while_the_bench_is_on_rq_are_told(
    switched_back: FrappeBench,
) -> None:
    bench = switched_back
    # What other tests have left waiting would be told too.
    assert bench.run("worker", "--burst").returncode == 0
    with bench.process("worker", "--queue", "long"):
        assert bench.run("use-celery", "off").returncode == 0
        done = bench.run("doctor")
        assert done.returncode == 0 and "Workers online: 0" in done.stdout  # Frappe's own
        (line,) = [one for one in done.stdout.splitlines() if one.startswith("error")]
        assert "none to the 1 worker of ours online, and RQ has none online: no job runs" in line
        assert "-> bench use-celery on, and restart the bench's" in line
    last = bench.run("doctor").stdout.splitlines()[-1]
    assert last.startswith("-----"), last  # and nothing of ours where all is well


#: In a process that imports it first, one of our modules cannot be imported.
BROKEN = "import sys\nsys.modules['frappe_jobs.frappe_bench.rq.starting'] = None\n"
WHOSE = """
from frappe.utils import background_jobs as jobs
answer = [name for name in ("get_queue", "Worker")
          if getattr(jobs, name).__module__.startswith("frappe_jobs.")]
"""


def test_a_way_in_that_fails_is_an_error_as_frappe_only_prints_it(
    bench: FrappeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.call(WHOSE) == ["get_queue", "Worker"]
    assert said(bench)["The bench's jobs go to Celery."] == "ok"
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    found = f"{tmp_path}:{bench.environment['PYTHONPATH']}"
    monkeypatch.setitem(bench.environment, "PYTHONPATH", found)
    assert bench.call(WHOSE) == ["get_queue"], "and what could be done is done"
    done = bench.run("doctor")
    (line,) = [one for one in done.stdout.splitlines() if "and yet not all of Frappe goes" in one]
    assert line.startswith("error") and "ModuleNotFoundError" in line and "starting" in line
    assert done.returncode == 1 and "The bench's jobs go to Celery." not in done.stdout


def test_a_host_that_cannot_be_imported_is_said_in_a_line(
    bench: FrappeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['frappe_jobs.frappe_bench.host.host'] = None\n"
    )
    found = f"{tmp_path}:{bench.environment['PYTHONPATH']}"
    monkeypatch.setitem(bench.environment, "PYTHONPATH", found)
    done = bench.run("doctor")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    (line,) = [one for one in done.stdout.splitlines() if "cannot be imported" in one]
    assert line.startswith("error    frappe_jobs' host of a bench cannot be imported")
    assert "frappe_jobs.frappe_bench.host.host" in line


def test_a_site_whose_own_extra_config_hides_the_way_in_is_told(bench: FrappeBench) -> None:
    """Frappe merges the site's file over the common one before it calls what is named."""
    path = bench.sites / bench.site / "site_config.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(before) | {"extra_config": []}))
        assert bench.call(WHOSE) == []
        (what,) = [one for one in said(bench) if "and yet not all of Frappe goes" in one]
        assert f"'extra_config' in {bench.site}'s site_config.json" in what
    finally:
        path.write_text(before)


def test_a_cure_is_typed_as_all_of_the_benchs_commands(bench: FrappeBench) -> None:
    done = bench.run("doctor", "--format", "json")
    cures = {one["cure"] for one in json.loads(done.stdout) if "worker is online" in one["what"]}
    assert cures == {"Start one: bench worker."}


def test_before_the_switch_nobody_misses_our_workers(switched_back: FrappeBench) -> None:
    bench = switched_back
    # What waits is told; on RabbitMQ also the messages of jobs that other tests have removed.
    assert bench.run("worker", "--burst").returncode == 0
    config = bench.config
    del config["extra_config"]
    bench.write_config(config)
    found = said(bench)
    assert [
        one for one in found if "use-celery was never called: the bench's jobs go to RQ." in one
    ]
    assert not [one for one in found if "No worker" in one or "o scheduler has" in one]


def test_the_versions_of_this_bench_fit(bench: FrappeBench) -> None:
    found = said(bench)
    assert [level for what, level in found.items() if "The versions are as required" in what] == [
        "ok"
    ]
    assert not [what for what in found if "is not installed there" in what]


def test_the_scan_finds_no_fault_in_frappes_own_source(bench: FrappeBench) -> None:
    done = bench.run("doctor", "--scan", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = [one["what"] for one in json.loads(done.stdout) if one["level"] != "ok"]
    assert [what for what in found if what.startswith("frappe/")] == []
    # Of other apps there may be something to say: ERPNext imports get_job by name.
    assert bench.run("doctor", "--scan", "--strict").returncode == bool(found)
