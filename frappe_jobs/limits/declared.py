"""The limits that apps' hooks and the configuration declare: how many jobs run at once, or begin.

An app declares its methods' in ``hooks.py``, whoever runs the bench those of sites and queues::

    job_limits = {"acme.tasks.sync": {"running": 1, "per": "site"}}

    "frappe_jobs_limits": {"site": {"running": 5}, "queue:long": {"rate": "30/m"}}

A wrong one is said, and the others are in force.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from frappe_jobs.config import Settings
from frappe_jobs.errors import FrappeJobsError, did_you_mean, shortened
from frappe_jobs.limits.rule import rule_text
from frappe_jobs.methods import resolve, takes
from frappe_jobs.sites_folder import COMMON_CONFIG, read_common

HOOK, SETTING = "job_limits", "frappe_jobs_limits"

WHATS = "bench, site, site:NAME, queue:NAME, method:PATH, concurrency_key"


@dataclass
class Declared:
    """What was found: rules as the ledger takes them, and what is wrong, in a line each."""

    rules: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def declared(settings: Settings, *, checks_methods: bool = False) -> Declared:
    """Read them all; the configuration's rule for a method replaces its app's.

    With ``checks_methods`` the methods are imported, and looked at for their arguments.  Raises
    ConfigError if the configuration cannot be read.
    """
    found = Declared()
    for where, what, rule in [*_of_hooks(settings, found), *_of_configuration(settings, found)]:
        try:
            text = rule_text(rule, is_of_method=what.startswith("method "))
            if checks_methods and what.startswith("method "):
                _check_method(what.removeprefix("method "), text, settings.sites.apps())
        except (ValueError, FrappeJobsError) as error:
            found.wrong.append(f"{where} {error} This limit is not in force.")
        else:
            found.rules[what] = text
    return found


def _of_hooks(settings: Settings, found: Declared) -> Iterator[tuple[str, str, object]]:
    for app in settings.sites.apps():
        try:
            hooks = importlib.import_module(f"{app}.hooks")
        except ModuleNotFoundError as error:
            if error.name in (app, f"{app}.hooks"):
                continue
            found.wrong.append(f"{app}/hooks.py cannot be imported: {error}.")
            continue
        except (Exception, SystemExit) as error:  # its own code
            found.wrong.append(f"{app}/hooks.py cannot be imported: {error!r}.")
            continue
        limits = getattr(hooks, HOOK, None)
        if limits is None:
            continue
        if not isinstance(limits, Mapping):
            found.wrong.append(
                f"{app}/hooks.py: {HOOK!r} must be a dictionary of methods; not "
                f"{shortened(limits)}."
            )
            continue
        for path, rule in limits.items():
            where = f"{app}/hooks.py: {HOOK}[{shortened(path)}]"
            if not isinstance(path, str) or "." not in path or not _is_path(path):
                found.wrong.append(f"{where} is no dotted path of a method.")
            else:
                yield where, f"method {path}", rule


def _of_configuration(settings: Settings, found: Declared) -> Iterator[tuple[str, str, object]]:
    path = settings.sites_path / COMMON_CONFIG
    limits = read_common(settings.sites_path).get(SETTING)
    if limits is None:
        return
    if not isinstance(limits, dict):
        found.wrong.append(f"{path}: {SETTING!r} must be an object; not {shortened(limits)}.")
        return
    for name, rule in limits.items():
        where = f"{path}: {SETTING}.{name:.100}"
        kind, has_value, value = name.partition(":")
        if problem := _problem(settings, kind, value if has_value else None):
            found.wrong.append(f"{where} {problem}")
            continue
        what = "key" if kind == "concurrency_key" else f"{kind} {value}" if has_value else kind
        yield where, what, rule


def _problem(settings: Settings, kind: str, value: str | None) -> str | None:
    """Why a name of the setting says nothing that could be limited."""
    if value is None and kind in ("bench", "site", "concurrency_key"):
        return None
    if value is not None and kind == "method":
        return None if _is_path(value) else "names no dotted path of a method."
    known: Collection[str] = ()
    if value is not None and kind in ("site", "queue"):
        known = settings.sites.names() if kind == "site" else settings.queues
        if value in known:
            return None
        return f"names no {kind} of the bench.{did_you_mean(value, known)}"
    return f"is none of: {WHATS}."


def _check_method(path: str, text: str, apps: Collection[str]) -> None:
    method = resolve(path, apps)
    argument = text.partition("per=argument:")[2]
    if argument and not takes(method, argument):
        raise ValueError(f".per: {path} takes no argument {argument!r}.")


def _is_path(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
