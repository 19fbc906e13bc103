"""In Frappe's place where there is none: the few names that our queues need of it.

Written from the interface of Frappe 15.50, recorded beside a real bench, where
tests/frappe_bench runs the same rooms under the real one.
"""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

#: Of the process; the tests fill it in.
local = SimpleNamespace(sites_path=None, site=None, flags=SimpleNamespace(in_migrate=False))
conf: dict[str, Any] = {}


class ValidationError(Exception):
    """Frappe's error for what its user must mend."""


def get_attr(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
