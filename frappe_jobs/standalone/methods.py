"""The methods of a site's apps, and those that the host has itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from frappe_jobs import methods
from frappe_jobs.host.methods import Methods
from frappe_jobs.host.own_methods import RUN_DOC_METHOD
from frappe_jobs.standalone.apps import Apps
from frappe_jobs.standalone.documents import SiteDocuments


class SiteMethods(Methods):
    """The methods of the apps that a site has installed, and the host's own."""

    def __init__(self, apps: Apps, documents: SiteDocuments) -> None:
        self._apps, self._documents = apps, documents
        self.own: dict[str, Callable[..., Any]] = {}

    def hooks(self, name: str, site: str) -> list[str]:
        return self._apps.paths(name, site)

    def resolve(self, path: str, site: str) -> Callable[..., Any]:
        return self.own.get(path) or methods.resolve(path, self._apps.installed(site))

    def resolver(self, site: str) -> Callable[[str], Callable[..., Any]]:
        apps = self._apps.installed(site)
        return lambda path: self.own.get(path) or methods.resolve(path, apps)

    def check(
        self, method: Callable[..., Any], path: str, arguments: Mapping[str, Any], site: str
    ) -> None:
        super().check(method, path, arguments, site)
        if path == RUN_DOC_METHOD:
            self._documents.check_method(arguments, site)

    def document_method(self, method: Callable[..., Any]) -> tuple[str, Any, str] | None:
        return self._documents.bound_to(method)
