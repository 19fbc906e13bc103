"""`make demo` says so when something is not as it must be; that it is, `.ci/run` sees."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from frappe_jobs import embedded
from frappe_jobs.testing import slowness

SHOP = Path(__file__).parents[2] / "examples" / "shop"
#: With another Python for the processes that it begins.
RUN = (
    "import runpy, sys; sys.executable, path = sys.argv.pop(1), sys.argv.pop(1)\n"
    "sys.path.insert(0, path); runpy.run_path(f'{path}/demo.py', run_name='__main__')"
)


def test_what_differs_is_named_and_the_exit_status_is_1(tmp_path, forker):
    shop = tmp_path / "examples" / "shop"
    shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns("__pycache__"))
    tasks = shop / "shop" / "tasks.py"
    tasks.write_text(tasks.read_text().replace('"Confirmed"', '"Forgotten"'))
    done = subprocess.run(
        [sys.executable, "-c", RUN, forker.write_python(tmp_path / "python", "frappe_jobs"), shop],
        capture_output=True,
        text=True,
        timeout=50 * slowness(),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not as expected: a function: 'Forgotten'" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.endswith("  NO")]
    assert len(lines) == 1 and lines[0].startswith("a function ")
    assert embedded.running(tmp_path / ".demo" / "sites") is None  # it stopped what it started
