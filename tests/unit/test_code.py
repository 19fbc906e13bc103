"""Which code a worker has begun with, and what is on disk now."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from frappe_jobs.alive.code import on_disk, versions
from frappe_jobs.brokers.base import OnlineWorker
from frappe_jobs.doctor.workers import stale

AT = 1_700_000_000.0


@pytest.fixture
def app(tmp_path, monkeypatch):
    """An app in a folder of its own."""
    package = tmp_path / "apps" / "parcels" / "parcels"
    (package / "sub").mkdir(parents=True)
    package.joinpath("__init__.py").write_text('app = 1\n__version__ = "1.2.0"\n')
    package.joinpath("sub", "tasks.py").write_text("")
    for path in package.rglob("*.py"):
        os.utime(path, (AT, AT))
    monkeypatch.syspath_prepend(str(package.parent))
    return package


def git(app, *arguments):
    who = ("-c", "user.name=x", "-c", "user.email=x@x.test")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=app.parent, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


def test_the_version_and_the_commit_are_named(app):
    assert versions(["parcels", "no_such_app", "."])["parcels"] == "1.2.0"
    git(app, "init", "-q", "-b", "main")
    assert versions(["parcels"])["parcels"] == "1.2.0"
    git(app, "add", ".")
    git(app, "commit", "-qm", "x")
    commit = git(app, "rev-parse", "--short=7", "HEAD")
    assert versions(["parcels"])["parcels"] == f"1.2.0 ({commit})"
    git(app, "pack-refs", "--all")
    assert versions(["parcels"])["parcels"] == f"1.2.0 ({commit})"
    git(app, "checkout", "-q", "--detach")
    assert versions(["parcels"])["parcels"] == f"1.2.0 ({commit})"
    assert "parcels" not in sys.modules  # nothing of it was run


def test_other_code_on_disk_makes_a_worker_stale(app):
    began = versions(["parcels"])
    worker = OnlineWorker("long.7@machine", ["long"], 1, 0.0, AT + 60, began)
    assert stale(worker, on_disk(["parcels"]), "machine") == ""
    changed = app / "sub" / "tasks.py"
    os.utime(changed, (AT + 99, AT + 99))
    assert "files have changed" in stale(worker, on_disk(["parcels"]), "machine")
    # Elsewhere times say nothing of the worker's disk.
    assert stale(worker, on_disk(["parcels"]), "another") == ""
    assert stale(replace(worker, since=None), on_disk(["parcels"]), "machine") == ""
    (app / "__init__.py").write_text('__version__ = "1.3.0"\n')
    assert stale(worker, on_disk(["parcels"]), "another") == (
        "parcels was 1.2.0 when it began, and is 1.3.0 now"
    )
    # One of an earlier version of ours does not say what it has.
    assert stale(replace(worker, code={}, since=None), on_disk(["parcels"]), "machine") == ""
