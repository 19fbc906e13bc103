"""What mypy and pyright tell a user, who has the package installed and a file of his own."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import frappe_jobs
from frappe_jobs.dispatch import Options

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests/data/typed").glob("*.py"))
#: At the end of a line that a checker finds fault with; or of one that only that checker does.
WRONG = "# wrong"

Lines = set[tuple[str, int]]


def wrong_lines(checker: str) -> Lines:
    return {
        (path.name, number)
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith((WRONG, f"{WRONG} to {checker}"))
    }


def begun(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder, text=True, stdout=subprocess.PIPE
    )


def test_both_checkers_find_the_faults_and_no_others(tmp_path):
    pytest.importorskip("pyright", reason="The extra lint is not installed.")
    for path in FILES:
        shutil.copy(path, tmp_path)
    # Outside of the repository, so that they find what is installed: here, an editable install.
    cache = ROOT / ".mypy_cache/users"
    mypy = begun(tmp_path, "mypy", "--strict", "--output", "json", "--cache-dir", str(cache), ".")
    pyright = begun(tmp_path, "pyright", "--outputjson", "--pythonpath", sys.executable)
    pyright_said, mypy_said = pyright.communicate()[0], mypy.communicate()[0]
    found = [
        one for one in json.loads(pyright_said)["generalDiagnostics"] if one["severity"] == "error"
    ]
    lines = {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found}
    assert lines == wrong_lines("pyright"), found
    found = [
        one for line in mypy_said.splitlines() if (one := json.loads(line))["severity"] == "error"
    ]
    assert {(one["file"], one["line"]) for one in found} == wrong_lines("mypy"), found


def forms(path: str, name: str) -> list[set[str]]:
    """What each of that function's forms takes."""
    return [
        {item.arg for item in [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]}
        for one in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(one, ast.FunctionDef) and one.name == name
    ]


def test_each_form_of_enqueue_takes_all_of_its_options():
    options = {option.name for option in fields(Options)} | {"method", "now", "is_async"}
    taken = forms("frappe_jobs/api/__init__.py", "enqueue")
    assert len(taken) > 2
    assert [options - names for names in taken[1:]] == [set()] * (len(taken) - 1)
    assert taken[0] == {"method", "queue", "timeout", "at_front"}  # a Celery task's
    for_later = forms("frappe_jobs/api/later.py", "__call__")
    assert [options - names for names in for_later] == [set()] * 6


def test_tab_in_a_shell_shows_the_api():
    shown = [name for name in dir(frappe_jobs) if not name.startswith("_")]
    assert shown == sorted(frappe_jobs.__all__)
    assert [name for name in shown if not hasattr(frappe_jobs, name)] == []
