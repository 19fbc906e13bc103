"""Django's own tasks, from Django 6 on, or those of the package django-tasks on an older one."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from frappe_jobs.errors import ConfigError

#: Both have the same modules and names, but for a few.
DJANGOS, PACKAGES = "django.tasks", "django_tasks"


def _find() -> str:
    for name in (DJANGOS, PACKAGES):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):  # something that it needs
                raise
        else:
            return name
    raise ConfigError(
        "There are no Django tasks here: Django has them from version 6 on, before that the "
        "package django-tasks. pip install 'frappe_jobs[django]', or django-tasks."
    )


FRAMEWORK = _find()


def _module(name: str) -> Any:
    return import_module(f"{FRAMEWORK}.{name}")


base, backends, exceptions, signals = map(
    _module, ("base", "backends.base", "exceptions", "signals")
)
_json: ModuleType = import_module("django.utils.json") if FRAMEWORK == DJANGOS else _module("utils")

#: What a value is once JSON has carried it; raises TypeError if it cannot.
normalize_json = _json.normalize_json
#: django-tasks calls it otherwise in some versions.
InvalidTask = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError


def is_task(value: object) -> bool:
    """Whether it was made by ``@task``, of Django or of the package: both may be in use."""
    both = (sys.modules.get(f"{name}.base") for name in (DJANGOS, PACKAGES))
    return isinstance(value, tuple(module.Task for module in both if module))
