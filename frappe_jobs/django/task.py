"""A Django task: its options for us, and how it is found by its path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import django
from django.apps import apps
from django.conf import settings

from frappe_jobs.django.framework import base, is_task
from frappe_jobs.errors import MethodNotAllowed, MethodNotFound
from frappe_jobs.message import Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(base.Task):  # type: ignore[misc]  # Django has no types
    """What ``@task`` makes: with ``enqueue``'s retry and timeout."""

    retry: int | Retry | None = None
    timeout: int | None = None


def find(path: str) -> Any:
    """The task at that dotted path; raises MethodNotAllowed or MethodNotFound.

    It must lie in one of Django's INSTALLED_APPS, or beside the settings, be defined there, and
    be a task: nothing else that the path may lead to is called.
    """
    if not apps.ready:
        _set_up()
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise MethodNotFound(f"{path!r} is no dotted path of a task, such as 'shop.tasks.pack'.")
    if path.partition(".")[0] not in _roots():
        raise MethodNotAllowed(
            f"{path!r} may not run: {path.partition('.')[0]!r} is no app of Django's "
            "INSTALLED_APPS. Add the app there."
        )
    try:
        found = getattr(import_module(module_name), name)
    except AttributeError:
        raise MethodNotFound(f"{path!r} was not found: {module_name} has no {name!r}.") from None
    except Exception as error:  # not there, or the module's own code
        raise MethodNotFound(f"{path!r}: importing {module_name} failed: {error!r}.") from error
    if not is_task(found) or found.module_path != path:
        raise MethodNotAllowed(f"{path!r} may not run: it is no task of Django's (@task).")
    return found


def _roots() -> set[str]:
    """The packages whose modules may have tasks: those of the apps, and the project's own."""
    names = [app.name for app in apps.get_app_configs()]
    names.append(getattr(settings, "SETTINGS_MODULE", None) or "")
    return {name.partition(".")[0] for name in names} - {""}


def _set_up() -> None:
    if not settings.configured and "DJANGO_SETTINGS_MODULE" not in os.environ:
        raise MethodNotFound(
            "A Django task cannot be found: Django is not set up here. Start the worker with "
            "DJANGO_SETTINGS_MODULE in its environment, as manage.py sets it."
        )
    django.setup()
