"""The composition root stands above this package: its runtime is found by name, when it is needed.

So a process of the bench that never enqueues anything never imports Celery.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import frappe

_runtimes: dict[str, Any] = {}


def runtime() -> Any:
    """The runtime of the sites folder that Frappe works on here."""
    folder = str(getattr(frappe.local, "sites_path", None) or os.environ.get("SITES_PATH") or ".")
    if folder not in _runtimes:
        found = import_module("frappe_jobs.runtime").of_sites_path(Path(folder).resolve())
        _runtimes[folder] = found
    return _runtimes[folder]
