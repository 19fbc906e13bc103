"""The Celery app of each sites folder in this process, and the runtime behind an app."""

from __future__ import annotations

from pathlib import Path

from celery import Celery

from frappe_jobs import runtime
from frappe_jobs.runtime import Runtime
from frappe_jobs.servers.in_force import SettingsInForce

#: For each sites folder the app, and the settings in force for it.
BENCH_APPS: dict[Path, tuple[Celery, SettingsInForce]] = {}


def sites_path_of(app: Celery) -> Path:
    """The sites folder that the app was made or extended for."""
    return next(path for path, (made, _) in BENCH_APPS.items() if made is app)


def runtime_of(app: Celery) -> Runtime:
    """The runtime of the bench that the app was made or extended for."""
    return runtime.of_sites_path(sites_path_of(app))
