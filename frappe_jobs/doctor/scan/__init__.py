"""What in the apps' source will not work as a job on Celery; nothing is imported or run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from frappe_jobs.doctor.scan.source import Read, read_source
from frappe_jobs.doctor.text import names, number
from frappe_jobs.texts.finding import Finding

#: Frappe's own uses of RQ work, or are named in the docs; we have none.
NO_RQ_IN = ("frappe", "frappe_jobs")
LEFT_OUT = ("tests", "node_modules", "__pycache__")


def folder_of(app: str, beside: Path | None = None) -> Path | None:
    """Where the app's package lies: in that folder, else where Python finds it, else None."""
    if not app.isidentifier():  # for a dotted name Python would import its parent
        return None
    spec: ModuleSpec | None = PathFinder.find_spec(app, [str(beside)]) if beside else None
    spec = spec or find_spec(app)
    found = [*(spec.submodule_search_locations or ())] if spec else []
    return Path(found[0]) if found else None


def scan(apps: Mapping[str, Path | None], *, on_bench: bool) -> Iterator[Finding]:
    """What is wrong in the apps' folders; on a Frappe bench also what uses RQ itself.

    Tests are left out: ``tests`` folders, ``test_….py``.  An app without a folder is a finding.
    """
    files = calls = 0
    found: list[Finding] = []
    for app, folder in apps.items():
        if folder is None:
            what = f"{app}: its source was not found, so it was not read."
            found.append(Finding("warning", what, "Install it, or remove it from apps.txt."))
            continue
        for path in _files(folder):
            read = _read(path, folder, app, on_bench)
            files, calls = files + 1, calls + read.calls
            found += _findings(read, path.relative_to(folder.parent).as_posix())
    yield from found
    there = [app for app, folder in apps.items() if folder]
    of_apps = f" of {names(there)}" if there else ""
    what = f"{number(files, 'file')}{of_apps} read: {number(calls, 'enqueue call')}"
    yield Finding("ok", f"{what}, {number(len(found), 'finding')}.")


def _files(folder: Path) -> Iterator[Path]:
    """Its Python files in order, without tests and hidden files; links are not followed."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name not in LEFT_OUT and not name.startswith(".")
        )
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith(("test_", ".")):
                yield Path(where, name)


def _read(path: Path, folder: Path, app: str, on_bench: bool) -> Read:
    parts = path.relative_to(folder).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join([app, *(parts[:-1] if is_package else parts)])
    try:
        text = path.read_bytes()
    except OSError as error:
        return Read(fault=error.strerror or str(error))
    with_rq = on_bench and app not in NO_RQ_IN
    return read_source(text, module, is_package=is_package, on_bench=on_bench, with_rq=with_rq)


def _findings(read: Read, where: str) -> Iterator[Finding]:
    if read.fault:
        what = f"{where} cannot be read, so its calls are not known: {read.fault}."
        yield Finding("warning", what, "Mend the file, or remove it.")
    for problem in read.problems:
        yield Finding("warning", f"{where}:{problem.line}: {problem.what}", problem.cure)
