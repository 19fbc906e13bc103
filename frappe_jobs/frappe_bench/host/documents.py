"""Frappe's own documents, for the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import frappe

from frappe_jobs.errors import DoesNotExistError, HostNotReady
from frappe_jobs.frappe_bench.host.session import is_open
from frappe_jobs.host.documents import Documents


def require_doctype(doctype: str) -> str:
    """The doctype's name; raises DoesNotExistError if the open site has none of that name."""
    if not is_open():
        raise HostNotReady()
    if not frappe.db.exists("DocType", doctype):
        raise DoesNotExistError(f"{frappe.local.site} has no doctype {doctype!r}.")
    return doctype


class BenchDocuments(Documents):
    """Calls Frappe's own functions."""

    def get_doc(self, doctype: str, name: Any, *, for_update: bool = False) -> Any:
        options = {"for_update": True} if for_update else {}
        return frappe.get_doc(require_doctype(doctype), name, **options)

    def new_doc(self, doctype: str, values: Mapping[str, Any]) -> Any:
        return frappe.new_doc(require_doctype(doctype), **values)

    def get_all(
        self,
        doctype: str,
        filters: Mapping[str, Any],
        fields: Sequence[str],
        order_by: str | None,
        limit: int | None,
    ) -> list[dict[str, Any]]:
        names = [fields] if isinstance(fields, str) else list(fields)
        rows: list[dict[str, Any]] = frappe.get_all(
            require_doctype(doctype), filters=dict(filters), fields=names, order_by=order_by,
            limit=limit,
        )  # fmt: skip
        return rows
