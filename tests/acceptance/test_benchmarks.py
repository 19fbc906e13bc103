"""The benchmarks run, and the page quotes what they found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_run_of_tiny_sizes_measures_everything_and_claims_nothing(tmp_path: Path) -> None:
    command = ["-m", "benchmarks", "--quick", "--no-peers", "--write", str(tmp_path)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, text=True, capture_output=True)

    assert done.returncode == 0, done.stderr
    assert tmp_path.joinpath("benchmarks.txt").read_text(encoding="utf-8") == done.stdout
    figures = done.stdout.partition("\nfigures")[2].splitlines()[2:6]
    assert [line.split()[0] for line in figures] == ["enqueue", "enqueue_many", "drain", "memory"]
    assert all("no claim" in line for line in figures)


def test_the_page_quotes_the_last_run() -> None:
    page = ROOT.joinpath("docs/benchmarks.md").read_text(encoding="utf-8")
    found = ROOT.joinpath("docs/benchmarks.txt").read_text(encoding="utf-8")
    assert f"```text\n{found}```\n" in page
    assert "MISSED" not in found
