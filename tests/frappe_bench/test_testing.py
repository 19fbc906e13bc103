"""frappe_jobs.testing in an app's own tests, run by Frappe's own runner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest
from frappe_bench.bench import APPS, EMPTY, FrappeBench

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"

pytestmark = pytest.mark.timeout(300)

LEFT = (
    "answer = [frappe.get_all('ToDo', {'description': ('like', '%frappe_jobs_test%')}), "
    "[job.id for name in ('short', 'default', 'long') for job in jobs.get_queue(name).jobs]]"
)


@pytest.fixture
def tested(bench: FrappeBench) -> Iterator[FrappeBench]:
    """A bench whose first site may be tested."""
    assert bench.run("--site", bench.site, "set-config", "allow_tests", "1").returncode == 0
    left_by_a_broken_run = (
        "frappe.db.delete('ToDo', {'description': ('like', '%frappe_jobs_test%')})"
    )
    bench.call(EMPTY + left_by_a_broken_run)
    yield bench
    bench.run("--site", bench.site, "set-config", "allow_tests", "0")


def test_the_documentations_own(tested: FrappeBench, tmp_path: Path) -> None:
    """Its app is the probe here."""
    page = PAGE.read_text().partition("## On a Frappe bench\n")[2].replace("shop", "probe")
    tasks, tests = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for function in tasks.split("\n\n\n")[1:]:
        assert function.strip() in (APPS / "probe" / "tasks.py").read_text()
    copytree(APPS / "probe", tmp_path / "probe")  # Frappe 17 runs no tests but an app's
    (tmp_path / "probe" / "test_reminders.py").write_text(tests)
    done = tested.run(
        "--site", tested.site, "run-tests", "--module", "probe.test_reminders",
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert "Ran 2 tests" in done.stderr and "\nOK" in done.stderr, done.stdout + done.stderr


def test_an_apps_own_tests(tested: FrappeBench) -> None:
    done = tested.run("--site", tested.site, "run-tests", "--module", "probe.test_jobs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK" in done.stderr, done.stdout + done.stderr
    # Nothing stays, neither in the database nor on the bench's own server.
    imports = "from frappe.utils import background_jobs as jobs\n"
    assert tested.call(imports + LEFT) == [[], []]
