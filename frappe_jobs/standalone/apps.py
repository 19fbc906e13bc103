"""A site's apps: what their hooks.py says."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from frappe_jobs.config import Settings
from frappe_jobs.errors import ConfigError
from frappe_jobs.standalone import session as sessions

logger = logging.getLogger(__name__)


class Apps:
    """The installed apps of a bench's sites."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def installed(self, site: str) -> Sequence[str]:
        """The site's apps when it was opened here; if it is not open, its apps now."""
        session = sessions.current()
        if session and session.site == site:
            return session.apps
        return self._settings.sites.installed_apps(site)

    def paths(self, hook: str, site: str) -> list[str]:
        """The dotted paths under that hook, in the apps' order; a hook is a text or a list."""
        found: list[str] = []
        for module in self._hooks(site):
            value = getattr(module, hook, [])
            paths = [value] if isinstance(value, str) else value
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                raise ConfigError(
                    f"{module.__name__}: {hook!r} must be a dotted path or a list of them; "
                    f"not {value!r}."
                )
            found += paths
        return found

    def values(self, hook: str, site: str) -> dict[str, Any]:
        """By app, the value of that hook, whatever it is; apps without it are left out."""
        return {
            module.__name__.rpartition(".")[0]: getattr(module, hook)
            for module in self._hooks(site)
            if hasattr(module, hook)
        }

    def table(self, hook: str, site: str) -> Mapping[str, str]:
        """By name, the dotted paths under that hook; a later app's replace an earlier app's."""
        found: dict[str, str] = {}
        for module in self._hooks(site):
            value = getattr(module, hook, {})
            if not isinstance(value, dict) or not all(
                isinstance(text, str) for item in value.items() for text in item
            ):
                raise ConfigError(
                    f"{module.__name__}: {hook!r} must be a dict of names and dotted paths; "
                    f"not {value!r}."
                )
            found |= value
        return found

    def preload(self) -> None:
        """Import each app's hooks and tasks; a failure is logged, and the rest is imported."""
        apps: dict[str, None] = {}
        for site in self._settings.sites.names():
            try:
                apps |= dict.fromkeys(self.installed(site))
            except ConfigError as error:
                logger.error("the apps of %s cannot be imported: %s", site, error)
        for name in (f"{app}.{module}" for app in apps for module in ("hooks", "tasks")):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if not f"{name}.".startswith(f"{error.name}."):  # the app's own import
                    logger.exception("%s cannot be imported", name)
                elif name.endswith(".hooks"):  # an app need not have tasks
                    logger.error("%s cannot be imported: there is no %r", name, error.name)
            except Exception:  # an app's own code must not keep the worker from the other apps
                logger.exception("%s cannot be imported", name)

    def _hooks(self, site: str) -> list[ModuleType]:
        modules = []
        for app in self.installed(site):
            try:
                modules.append(importlib.import_module(f"{app}.hooks"))
            except Exception as error:  # not there, or the app's own code
                raise ConfigError(
                    f"App {app!r} of {site} cannot be used: importing {app}.hooks failed: "
                    f"{error!r}."
                ) from error
        return modules
