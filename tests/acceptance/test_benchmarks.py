"""The benchmarks run, and the page quotes what they found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import warm

ROOT = Path(__file__).parents[2]

#: With another Python for the producers of jobs, of which one measures no start.
RUN = (
    "import runpy, sys; sys.executable = sys.argv.pop(1)\n"
    "runpy.run_module('benchmarks', run_name='__main__')"
)

#: What runs beside them slows them down more than others: they keep a processor busy.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def run(
    tmp_path_factory: pytest.TempPathFactory, forker: warm.Forker
) -> Callable[..., subprocess.CompletedProcess[str]]:
    python = forker.write_python(tmp_path_factory.mktemp("bin") / "python", "benchmarks.producer")
    command = [sys.executable, "-c", RUN, python]
    return lambda *arguments: subprocess.run(
        [*command, *arguments], cwd=ROOT, text=True, capture_output=True
    )


def test_a_run_of_tiny_sizes_measures_everything_and_claims_nothing(
    tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run("--quick", "--no-peers", "--write", tmp_path)

    assert done.returncode == 0, done.stderr
    assert tmp_path.joinpath("benchmarks.txt").read_text(encoding="utf-8") == done.stdout
    figures = done.stdout.partition("\nfigures")[2].splitlines()[2:8]
    assert [line.split()[0] for line in figures] == [
        "enqueue", "enqueue_many", "drain", "start,", "Redis,", "memory",
    ]  # fmt: skip
    assert all("no claim" in line for line in figures)
    assert_schedule(done.stdout)


def assert_schedule(text: str) -> None:
    """It measured all of the scheduler's figures, and claims none of them from so few rounds."""
    lines = text.partition("\nschedule, 20 sites with 50 jobs each (1 rounds)\n")[2].splitlines()
    wanted = [line for line in lines if ">= " in line or "<= " in line]
    assert [line.split(",")[0].strip()[:7] for line in wanted] == ["migrate", "the for", "all due"]
    assert all("no claim" in line for line in wanted)
    assert any("Frappe 15, tick with nothing due, ms             420" in line for line in lines)


def test_the_schedule_alone_renews_its_part_and_leaves_the_rest(
    tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for name in ("benchmarks.txt", "benchmarks.md"):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    before = tmp_path.joinpath("benchmarks.txt").read_text(encoding="utf-8")
    done = run("--only", "schedule", "--quick", "--write", tmp_path)

    assert done.returncode == 0, done.stderr
    assert_schedule(f"\n{done.stdout}")
    after = tmp_path.joinpath("benchmarks.txt").read_text(encoding="utf-8")
    assert after == before.partition("\nschedule, ")[0] + f"\n{done.stdout}"
    page = tmp_path.joinpath("benchmarks.md").read_text(encoding="utf-8")
    assert f"```text\n{after}```\n" in page


def test_the_page_quotes_the_last_run() -> None:
    page = ROOT.joinpath("docs/benchmarks.md").read_text(encoding="utf-8")
    found = ROOT.joinpath("docs/benchmarks.txt").read_text(encoding="utf-8")
    assert f"```text\n{found}```\n" in page
    assert "MISSED" not in found
