"""What Tab offers in a shell: sites, queues, methods, jobs.

Nothing is started for it, nothing of an app is imported, and whatever goes wrong offers nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from frappe_jobs import embedded
from frappe_jobs.alive.code import folder_of
from frappe_jobs.config import Settings, load_settings, variable
from frappe_jobs.sites_folder import find_sites_path

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

#: The key in a context's ``meta`` of the site that the command line names.
SITE = "named site"
#: The newest jobs that are offered; methods, and files that are read for them.
JOBS, METHODS, FILES = 100, 500, 3000

FUNCTION = re.compile(r"^(?:async +)?def ([a-z]\w*)\(", re.MULTILINE)


def offering(
    find: Callable[[Settings, click.Context, str], Iterable[tuple[str, str]]],
) -> Complete:
    """Completion by what is found, names with a word on each, that begins as the word does."""

    @wraps(find)
    def complete(context: click.Context, _: click.Parameter, word: str) -> list[CompletionItem]:
        try:
            found = [*find(_settings(context), context, word)]
        except Exception:  # a traceback would stand in the middle of a command line
            return []
        return [CompletionItem(name, help=said) for name, said in found if name.startswith(word)]

    return complete


@offering
def sites(settings: Settings, _: click.Context, __: str) -> Iterator[tuple[str, str]]:
    """The bench's sites, and all."""
    yield from ((name, "") for name in settings.sites.names())
    yield "all", "every site"


@offering
def queues(settings: Settings, _: click.Context, word: str) -> Iterator[tuple[str, str]]:
    """The bench's queues, also behind a comma."""
    before = word[: word.rfind(",") + 1]
    given = before.split(",")
    for queue in settings.queues.values():
        if queue.name not in given:
            yield f"{before}{queue.name}", f"timeout {queue.timeout} s"


@offering
def methods(settings: Settings, context: click.Context, word: str) -> Iterator[tuple[str, str]]:
    """The functions of the site's apps, read from their files."""
    sys.path.insert(0, str(settings.sites_path.parent))
    paths = (
        path
        for app in settings.sites.installed_apps(_site(settings, context))
        if (folder := folder_of(app))
        for path in _functions(app, folder, word)
    )
    yield from ((path, "") for path in islice(paths, METHODS))


def _functions(app: str, folder: Path, word: str) -> Iterator[str]:
    files = sorted(islice(folder.rglob("*.py"), FILES), key=lambda file: (len(file.parts), file))
    for file in files:
        parts = [app, *file.relative_to(folder).with_suffix("").parts]
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if module.startswith(word) or word.startswith(f"{module}."):
            text = file.read_text(encoding="utf-8", errors="replace")
            found = (f"{module}.{name}" for name in FUNCTION.findall(text))
            yield from (path for path in found if path.startswith(word))


@offering
def job_ids(settings: Settings, context: click.Context, _: str) -> Iterator[tuple[str, str]]:
    """The newest jobs of the site."""
    here = import_module("frappe_jobs.runtime").use(settings.sites_path)
    for record in islice(here.listing.latest(_sites(settings, context)), JOBS):
        yield record.message.job_id, f"{record.status} {record.message.name}"


@offering
def scheduled_jobs(settings: Settings, context: click.Context, _: str) -> Iterator[tuple[str, str]]:
    """The site's scheduled jobs."""
    here = import_module("frappe_jobs.runtime").use(settings.sites_path)
    for site in _sites(settings, context):
        for record in here.host.schedule.job_types(site):
            yield record.name, f"{record.method} {record.cron_format or record.frequency}"


def _settings(context: click.Context) -> Settings:
    path = find_sites_path()
    if context.find_root().params.get("embedded") and (url := embedded.running(path)):
        os.environ[variable("redis_queue")] = url
    return load_settings(path)


def _site(settings: Settings, context: click.Context) -> str:
    return _sites(settings, context)[0]


def _sites(settings: Settings, context: click.Context) -> list[str]:
    """As a command chooses them; all where none is named."""
    named = context.meta.get(SITE) or os.environ.get("FRAPPE_SITE") or settings.default_site
    names = settings.sites.names()
    return [named] if named in names else names


def note_site(context: click.Context, value: Any) -> None:
    """Keep the site that the command line names, for what is completed after it."""
    context.meta[SITE] = value
