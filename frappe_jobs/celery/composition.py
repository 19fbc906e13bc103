"""The composition root stands above this package: its runtime is found by name, not imported."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.utils.imports import symbol_by_name


def runtime_of(app: Celery) -> Any:
    """The runtime of the bench that the app was made or extended for."""
    return symbol_by_name("frappe_jobs.runtime:of_app")(app)
