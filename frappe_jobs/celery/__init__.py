"""Celery's side: the app with its one task, the worker.

``celery -A frappe_jobs`` finds the app here as ``celery``; it is made on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    celery: Celery


def __getattr__(name: str) -> Any:
    if name == "celery":
        from frappe_jobs.celery.app import make_app

        globals()["celery"] = made = make_app()
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
