"""The Celery app of each sites folder in this process, and the runtime behind an app."""

from __future__ import annotations

from pathlib import Path

from celery import Celery

from frappe_jobs import runtime
from frappe_jobs.runtime import Runtime
from frappe_jobs.servers.in_force import SettingsInForce

#: For each sites folder the app, and the settings in force for it.
BENCH_APPS: dict[Path, tuple[Celery, SettingsInForce]] = {}


def runtime_of(app: Celery) -> Runtime:
    """The runtime of the bench that the app was made or extended for."""
    path = next(path for path, (made, _) in BENCH_APPS.items() if made is app)
    return runtime.of_sites_path(path)
