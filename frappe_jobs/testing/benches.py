"""A bench in a temporary folder, with a server of its own; and a site that stays as it was."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from frappe_jobs import embedded, runtime
from frappe_jobs.config import variable
from frappe_jobs.errors import ArgumentError
from frappe_jobs.host.session import Session
from frappe_jobs.runtime import Runtime
from frappe_jobs.testing.apart import apart, is_on_own_server

#: What the person who runs the tests has set must not reach them, nor their jobs a real server.
THEIRS = ("FRAPPE_", "CELERY_", "SITES_PATH")
QUEUE = variable("redis_queue")


@contextmanager
def bench(
    apps: Sequence[str],
    *,
    sites: Sequence[str] = ("site1",),
    config: Mapping[str, Any] | None = None,
    site_config: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Iterator[Runtime]:
    """A sites folder with these apps and sites, on an embedded server, in use in this process.

    ``config`` and ``site_config`` are what stands in the files of that name.  The hooks' scheduled
    jobs are known.  What ``FRAPPE_…`` and ``CELERY_…`` in the environment say is not heard
    meanwhile.  All of it is gone at the end, unless a ``folder`` is given.
    """
    with tempfile.TemporaryDirectory(prefix="frappe_jobs-") as own:
        sites_path = Path(folder or own) / "sites"
        _write(sites_path / "common_site_config.json", {"default_site": sites[0], **(config or {})})
        sites_path.joinpath("apps.txt").write_text("\n".join([*apps, ""]))
        for site in sites:
            _write(sites_path / site / "site_config.json", site_config or {})
        before = runtime.in_use()
        try:
            with environment(sites_path):
                here = runtime.use(sites_path)
                for site in sites:
                    here.sync.migrate(site)
                yield here
                here.leave()
        finally:
            runtime.use_again(before)
            embedded.stop(sites_path)


@contextmanager
def environment(sites_path: Path) -> Iterator[None]:
    """Inside, this process's environment names that bench, for what the process starts as well."""
    before = variables()
    set_variables({"SITES_PATH": str(sites_path), QUEUE: embedded.start(sites_path)})
    try:
        yield
    finally:
        set_variables(before)


def variables() -> dict[str, str]:
    """What this process's environment says of a bench."""
    return {name: value for name, value in os.environ.items() if name.startswith(THEIRS)}


def set_variables(variables: Mapping[str, str]) -> None:
    """Have it say that and nothing else."""
    for name in [*os.environ]:
        if name.startswith(THEIRS):
            del os.environ[name]
    os.environ.update(variables)


@contextmanager
def rolled_back(site: str, user: str | None = None) -> Iterator[Session]:
    """Open the site of the bench in use; at the end all is as it was, whoever has committed what.

    Whoever opens that site meanwhile, the jobs that ``run_jobs`` runs among them, sees what is
    written here, as all share one connection.  So it is for one thread: what other threads or
    processes write is not undone, and on SQLite they cannot write.

    On a Frappe bench the site may be open, as in Frappe's own tests: what its transaction has
    written stays.  Jobs go to an embedded server meanwhile, which knows of none at first.
    """
    here = runtime.current()
    with apart(here) if here.is_bench else nullcontext(here) as here:
        if here.is_bench:
            forget_jobs()
        with here.host.joined(site, user) as session:
            yield session


def forget_jobs() -> None:
    """Forget all that the server of the bench in use knows: jobs, results, the schedule's entries.

    Raises ArgumentError unless that is an embedded server: no other is emptied.
    """
    here = runtime.current()
    if not is_on_own_server(here):
        raise ArgumentError("Only an embedded server is emptied; this bench has another.")
    server = here.ledger.redis
    kept = "_kombu.binding."  # Celery declares a queue once in a process
    if keys := [key for key in server.scan_iter(count=1000) if not str(key).startswith(kept)]:
        server.delete(*keys)


def apps_beside(folder: Path) -> list[str]:
    """The apps in that folder: packages with a ``hooks.py``."""
    return sorted(
        hooks.parent.name
        for hooks in folder.glob("*/hooks.py")
        if hooks.with_name("__init__.py").exists() and hooks.parent.name.isidentifier()
    )


def make_importable(folder: Path) -> None:
    """Have the packages in that folder found."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
