"""What a bench's environment is in for when the package is installed into it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python() -> str:
    """The bench's own Python; skips by name where no bench is given."""
    bench = os.environ.get("BENCH")
    if not bench:
        pytest.skip("No Frappe bench is given: make test-bench BENCH=/path/to/bench")
    found = Path(bench) / "env" / "bin" / "python"
    assert found.exists(), f"{bench} is no bench: there is no {found}"
    return str(found)


def test_none_of_the_benchs_packages_moves(python: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    present = {
        one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(listed.stdout)
    }
    extra = f"frappe{present['frappe'].partition('.')[0]}"  # each Frappe pins its own
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run",
         "--report", str(report), f"{ROOT}[{extra}]"],
        check=True,
    )  # fmt: skip
    planned = {
        one["metadata"]["name"].lower().replace("_", "-")
        for one in json.loads(report.read_text())["install"]
    }
    assert {"celery", "celery-redbeat"} <= planned | {*present}
    assert (planned - {"frappe-jobs"}) & {*present} == set()


def test_nothing_that_is_installed_is_at_odds(python: str) -> None:
    checked = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
