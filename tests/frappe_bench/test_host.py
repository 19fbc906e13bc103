"""The host contract on the bench: the suite that the standalone host passes, in its own Python."""

from __future__ import annotations

import importlib
import subprocess
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from frappe_bench.bench import FrappeBench

TESTS = Path(__file__).parents[1]
#: What runs a test; all of it plain Python, so that the bench's runs it from where it lies here.
#: What it needs beside that, a bench has: pygments and packaging.
RUNNER = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "pytest_timeout")


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH: pytest's packages and nothing of what the bench pins."""
    folder = tmp_path / "runner"
    folder.mkdir()
    for name in RUNNER:
        file = importlib.import_module(name).__file__
        assert file
        found = Path(file).parent if file.endswith("__init__.py") else Path(file)
        (folder / found.name).symlink_to(found)
    return folder


@pytest.mark.timeout(600)
def test_the_benchs_host_keeps_the_contract(
    bench: FrappeBench, runner: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.xml"
    before = bench.config
    bench.write_config(before | {"shared_key": "of the bench"})
    try:
        done = subprocess.run(
            [str(bench.python), "-m", "pytest", "--noconftest", "-p", "contract.bench",
             "-p", "frappe_jobs.pytest_plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider",
             "-o", "filterwarnings=default", "--junit-xml", str(report), "-rs", "-q",
             f"{TESTS / 'contract' / 'test_host.py'}::TestBench"],
            cwd=bench.sites, text=True, capture_output=True, timeout=600, env=bench.environment | {
                "PYTHONPATH": f"{bench.environment['PYTHONPATH']}:{TESTS}:{runner}",
                # Plugins of the bench's own are for another pytest.
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "CONTRACT_SITE": bench.site, "CONTRACT_OTHER_SITE": bench.other_site,
            },
        )  # fmt: skip
    finally:
        bench.write_config(before)
    assert done.returncode == 0, done.stdout + done.stderr
    suite = xml.parse(report).getroot().find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", 0)) - int(suite.get("skipped", 0)) > 80
