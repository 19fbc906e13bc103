"""Installed beside Frappe, as ``bench get-app`` does it: no package that Frappe pins moves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: As pyproject.toml says, which pip obeys in the test without a Frappe.
BUILDING = ("setuptools>=64", "packaging>=21", "tomli>=2; python_version < '3.11'")
BUILT_FROM = (
    "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "docs/frappe-jobs.1",
    "frappe_jobs",
)  # fmt: skip

#: Of what Frappe pins, what Celery and we need as well, and RQ; a version whose every pin is one of
#: these is left out.
PINS = {
    "15.50": [
        "Click~=8.1.3", "croniter~=2.0.1", "python-dateutil~=2.8.2", "pytz==2023.3",
        "redis~=4.5.5", "hiredis~=2.2.3", "rq==1.15.1", "tenacity~=8.2.2",
    ],
    "15.105": [
        "Click~=8.2.0", "croniter~=6.0.0", "python-dateutil~=2.9.0", "pytz==2025.2",
        "redis~=4.5.5", "hiredis~=2.2.3", "rq==1.15.1", "tenacity~=8.2.2",
    ],
    "17-dev": [
        "Click~=8.3.1", "croniter~=6.0.0", "python-dateutil~=2.9.0", "redis~=7.1.0",
        "rq==2.6.1", "tenacity~=9.1",
    ],
}  # fmt: skip


def copied(folder: Path) -> Path:
    """The package's source, in a folder of that parent."""
    own = folder / "frappe_jobs"
    own.mkdir(parents=True)
    for name in BUILT_FROM:
        (own / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, own / name)
    return own


def pip(python: Path, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def planned(python: Path, source: Path, tmp_path: Path, *options: str) -> dict[str, str]:
    """What an editable install without any extra would install, and in which versions."""
    report = tmp_path / "report.json"
    pip(python, "install", "--quiet", *options, "--dry-run", "--report", report, "-e", source)
    return {
        item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"]
        for item in json.loads(report.read_text())["install"]
    }


def make_python(folder: Path) -> Path:
    """Of an empty environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def frappes_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that one version's pins after the other are installed in.

    What builds the package is there as well: pip would install it anew for each build.
    """
    python = make_python(tmp_path_factory.mktemp("frappe") / "env")
    pip(python, "install", "--quiet", *BUILDING)
    return python


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", PINS)
def test_beside_frappe_no_package_moves(version: str, frappes_python: Path, tmp_path: Path) -> None:
    source = copied(tmp_path / "apps")
    (tmp_path / "apps" / "frappe").mkdir()
    (tmp_path / "apps" / "frappe" / "pyproject.toml").write_text(
        f'[project]\nname = "frappe"\ndependencies = {json.dumps(PINS[version])}\n'
    )
    pip(frappes_python, "install", "--quiet", "--no-compile", *PINS[version])
    found = planned(frappes_python, source, tmp_path, "--no-build-isolation")
    assert {"celery", "kombu", "celery-redbeat", "frappe-jobs"} <= {*found}
    moved = {"click", "croniter", "python-dateutil", "pytz", "redis", "rq", "tenacity"} & {*found}
    assert moved == set()
    # kombu 5.7 refuses to work with an older client of Redis, though it does not ask for it.
    assert found["kombu"].startswith("5.6.") == ("redis~=4.5.5" in PINS[version])


@pytest.mark.timeout(900)
def test_elsewhere_the_newest_celery_comes(tmp_path: Path) -> None:
    found = planned(make_python(tmp_path / "env"), copied(tmp_path / "somewhere"), tmp_path)
    assert tuple(map(int, found["celery"].split(".")[:2])) >= (5, 7)
