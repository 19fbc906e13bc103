"""The methods of a site's apps as Frappe knows them, and those that the host has itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import frappe
from frappe.model.base_document import get_controller
from frappe.model.document import Document

from frappe_jobs import methods
from frappe_jobs.config import Settings
from frappe_jobs.errors import MethodNotFound
from frappe_jobs.frappe_bench.host.bound import as_called
from frappe_jobs.frappe_bench.host.documents import require_doctype
from frappe_jobs.frappe_bench.host.reading import Read
from frappe_jobs.frappe_bench.host.session import is_open
from frappe_jobs.host.methods import Methods
from frappe_jobs.host.own_methods import RUN_DOC_METHOD

#: The last of a job's after_job hooks.
AFTER_JOB_CALLBACKS = "frappe_jobs.after_job_callbacks"


class BenchMethods(Methods):
    """The methods of the apps that Frappe says are installed, and the host's own."""

    def __init__(self, settings: Settings, on: Read) -> None:
        self._settings, self._on = settings, on
        self.own: dict[str, Callable[..., Any]] = {}

    def hooks(self, name: str, site: str) -> list[str]:
        found = self._on(site, lambda: list(frappe.get_hooks(name)))
        return [*found, AFTER_JOB_CALLBACKS] if name == "after_job" else found

    def resolve(self, path: str, site: str) -> Callable[..., Any]:
        if path in self.own:
            return self.own[path]
        return as_called(methods.resolve(path, self.apps(site)))

    def check(
        self, method: Callable[..., Any], path: str, arguments: Mapping[str, Any], site: str
    ) -> None:
        super().check(method, path, arguments, site)
        if path == RUN_DOC_METHOD:
            self._check_doc_method(**arguments)

    def _check_doc_method(self, doctype: str, name: Any, doc_method: Any, **rest: Any) -> None:
        """Raise what the call would raise; a private method may be called, as in Frappe."""
        try:
            kind = get_controller(doctype)
        except ImportError:
            require_doctype(doctype)
            raise
        is_name = isinstance(doc_method, str) and not doc_method.startswith("__")
        found = getattr(kind, doc_method, None) if is_name else None
        if not inspect.isroutine(found):
            raise MethodNotFound(f"{doctype} has no method {doc_method!r}.")
        if inspect.isfunction(inspect.getattr_static(kind, doc_method)):
            found = functools.partial(found, None)
        methods.check_arguments(found, f"{doctype}.{doc_method}", rest)

    def apps(self, site: str) -> Sequence[str]:
        """The site's apps; while an app is installed or removed, all the bench's, as in Frappe."""
        if not is_open() or frappe.local.site != site:
            return self._settings.sites.installed_apps(site)
        flags = frappe.local.flags
        if flags.in_install or flags.in_uninstall or flags.in_install_db:
            return list(frappe.get_all_apps(with_internal_apps=False))
        return list(frappe.get_installed_apps())

    def document_method(self, method: Callable[..., Any]) -> tuple[str, Any, str] | None:
        document = getattr(method, "__self__", None)
        if not isinstance(document, Document):
            return None
        return document.doctype, document.name, method.__name__
