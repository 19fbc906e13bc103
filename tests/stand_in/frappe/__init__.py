"""In Frappe's place where there is none: the few names that our queues need of it.

Written from the interface of Frappe 15.50, recorded beside a real bench, where
tests/frappe_bench runs the same rooms under the real one.
"""

from __future__ import annotations

from contextvars import ContextVar
from importlib import import_module
from types import SimpleNamespace
from typing import Any

_values: ContextVar[dict[str, Any]] = ContextVar("frappe's stand-in")


class Local:
    """Each context's own, as Frappe's."""

    def __getattr__(self, name: str) -> Any:
        try:
            return _values.get({})[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        _values.set({**_values.get({}), name: value})


#: The tests fill it in.
local = Local()
local.sites_path, local.site = None, None
local.flags = SimpleNamespace(in_migrate=False)
conf: dict[str, Any] = {}
local.conf = conf


class PermissionError(Exception):
    """Frappe's."""


class ValidationError(Exception):
    """Frappe's error for what its user must mend."""


def get_installed_apps() -> list[str]:
    return ["acme"]


def get_attr(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
