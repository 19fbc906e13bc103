"""Functions and classes of errors as arguments of a job: they travel by their dotted path.

Frappe's own ``enqueue_task`` sends both.  A message has nothing imported but modules of the site's
apps: a class of errors that is of none of them is recognised by its path.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from frappe_jobs.arguments import Codec
from frappe_jobs.errors import ArgumentError, MethodNotFound
from frappe_jobs.methods import path_of, resolve


def codecs(apps: Callable[[], Collection[str]]) -> list[Codec]:
    """Of functions and of classes of errors, on a site with these apps."""

    def path_of_function(function: Callable[..., Any]) -> str:
        """Raises MethodNotFound, MethodNotAllowed for what no worker would find, or may call."""
        path = path_of(function)
        resolve(path, apps())
        return path

    def function_at(path: Any) -> Callable[..., Any]:
        if not isinstance(path, str):
            raise ArgumentError(f"{path!r}, which is no path")
        return resolve(path, apps())

    return [
        Codec("function", inspect.isfunction, path_of_function, function_at),
        Codec(
            "error class", _is_class_of_errors, _path_of_class,
            lambda parts: _class_of_errors(parts, apps()),
        ),
    ]  # fmt: skip


def _is_class_of_errors(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _path_of_class(kind: type) -> list[str]:
    return [kind.__module__, kind.__qualname__]


def _class_of_errors(parts: Any, apps: Collection[str]) -> type:
    """The class, if its module is loaded or an app's; else one that recognises its errors."""
    module, name = parts
    found: Any = sys.modules.get(module)
    if module.partition(".")[0] in apps:
        with suppress(MethodNotFound):
            found = resolve(f"{module}.{name}", apps)
    else:
        for part in name.split("."):
            found = getattr(found, "__dict__", {}).get(part)  # no __getattr__, which may import
    if _is_class_of_errors(found):
        kind: type = found
        return kind
    return _ByPath(name, (Exception,), {"__module__": module})


class _ByPath(type):
    """Of a class that recognises errors by the path of their classes."""

    def __instancecheck__(cls, error: object) -> bool:
        return cls.__subclasscheck__(type(error))

    def __subclasscheck__(cls, kind: type) -> bool:
        return any(
            (one.__module__, one.__qualname__) == (cls.__module__, cls.__qualname__)
            for one in kind.__mro__
        )
