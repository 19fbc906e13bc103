"""The bench that ``make test-bench`` is given; without one these tests are skipped by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from frappe_bench.bench import CLEAR, FrappeBench, Process

#: Frappe's own runner runs what an app tests.
collect_ignore = ["apps"]

AFTER_MIGRATE = "frappe_jobs.frappe_bench.events.after_migrate"
LOG_IN = (
    "from frappe.core.doctype.activity_log.activity_log import add_authentication_log\n"
    "add_authentication_log('the tests log in', 'Administrator')\n"
)
#: A user of the Desk who may see nothing of jobs.
CLERK = "clerk@probe.test"
#: What a run that was killed leaves in the bench's configuration.
LEFT = ("frappe_jobs_off", "frappe_jobs_draining", "pause_scheduler", "maintenance_mode")
OFF = "answer = not frappe.db.get_single_value('System Settings', 'enable_scheduler')"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's own time is limited: to install the apps on a site like ERPNext's takes minutes."""
    for item in items:
        own = item.get_closest_marker("timeout")
        if own and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(*own.args, func_only=True), append=False)


@pytest.fixture(scope="session")
def _bench() -> Iterator[FrappeBench]:
    path, site = os.environ.get("BENCH"), os.environ.get("SITE")
    if not path or not site:
        pytest.skip("No Frappe bench is given: make test-bench BENCH=/path/to/bench SITE=name")
    bench = FrappeBench(Path(path), site)
    bench.write_config({key: value for key, value in bench.config.items() if key not in LEFT})
    before = {
        name: (bench.sites / name).read_text() for name in ("apps.txt", "common_site_config.json")
    }
    apps, was_off = before["apps.txt"].split(), []
    wanted = [name for name in ("frappe_jobs", "probe") if name not in apps]
    (bench.sites / "apps.txt").write_text("\n".join([*apps, *wanted]) + "\n")
    try:
        for one in {bench.site, bench.other_site}:
            there = bench.call("answer = frappe.get_installed_apps()", site=one)
            for app in [name for name in ("frappe_jobs", "probe") if name not in there]:
                done = bench.run("--site", one, "install-app", app)
                assert done.returncode == 0, done.stdout + done.stderr
            # Where an earlier version of the app was installed.
            done = bench.run("--site", one, "execute", AFTER_MIGRATE)
            assert done.returncode == 0, done.stdout + done.stderr
        assert bench.run("use-celery", "on").returncode == 0
        assert bench.run("purge-jobs").returncode == 0
        for one in {bench.site, bench.other_site}:
            bench.call(CLEAR, site=one)
        # Where nobody has gone through Frappe's setup yet, its scheduler is off, and where nobody
        # has logged in lately the site is dormant.
        was_off = [
            one for one in {bench.site, bench.other_site} if bench.call(LOG_IN + OFF, site=one)
        ]
        for one in was_off:
            assert bench.run("--site", one, "enable-scheduler").returncode == 0
        yield bench
    finally:
        for one in was_off:
            bench.run("--site", one, "disable-scheduler")
        for one in {bench.site, bench.other_site}:
            bench.run("--site", one, "uninstall-app", "probe", "--yes", "--no-backup", "--force")
        for name, text in before.items():
            (bench.sites / name).write_text(text)
        bench.run("--site", "all", "clear-cache")


@pytest.fixture
def bench(_bench: FrappeBench) -> FrappeBench:
    return _bench


@pytest.fixture(scope="module")
def _worker(_bench: FrappeBench) -> Iterator[Process]:
    with _bench.process("worker", "--queue", "short,default") as process:
        yield process


@pytest.fixture
def worker(_worker: Process) -> Process:
    """A worker; of the queue long nothing runs, so that what waits there can be looked at."""
    assert _worker.process.poll() is None, _worker.log
    return _worker


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where the probe's jobs write what they saw."""
    return tmp_path / "notes"


@pytest.fixture
def clerk(bench: FrappeBench) -> str:
    bench.call(
        f"if not frappe.db.exists('User', {CLERK!r}):\n"
        f"    frappe.get_doc(dict(doctype='User', email={CLERK!r}, first_name='x', "
        "send_welcome_email=0, roles=[dict(role='Desk User')])).insert()"
    )
    return CLERK
