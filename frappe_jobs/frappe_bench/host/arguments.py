"""Frappe's own types as arguments of a job: ``frappe._dict``, documents, functions, errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import frappe
from frappe.model import optional_fields
from frappe.model.base_document import BaseDocument, get_controller
from frappe.model.docstatus import DocStatus
from frappe.utils.data import UnicodeWithAttrs

from frappe_jobs.arguments import Arguments, Codec, of_type
from frappe_jobs.errors import ArgumentError, JobNotSerializable
from frappe_jobs.frappe_bench.host import bound, by_path

logger = logging.getLogger(__name__)

#: Attributes that begin with ``_`` and travel all the same: columns, and whether it is new.
KEPT = frozenset({*optional_fields, "__islocal", "__unsaved"})
#: Attributes that each process makes anew.
MADE = frozenset({"meta", "permitted_fieldnames", "_parent_doc", "_table_fieldnames", "_weakref"})


def bench_arguments(apps: Callable[[], Collection[str]] = frappe.get_installed_apps) -> Arguments:
    """Codecs of the standard types, of Frappe's, and of a bound method's object (``BoundTo``)."""
    arguments = Arguments([
        of_type(frappe._dict, dict, frappe._dict, "frappe._dict"),
        of_type(DocStatus, int, DocStatus),
        of_type(UnicodeWithAttrs, lambda html: [str(html), vars(html)], _html),
        Codec(
            "document",
            lambda value: isinstance(value, BaseDocument),
            lambda document: _pack(document, travels),
            document_of,
        ),
        of_type(
            bound.BoundTo,
            lambda bound_to: bound.attributes(bound_to, (KEPT | MADE).__contains__, travels),
            bound.rebuilt,
            bound.NAME,
        ),
        *by_path.codecs(apps),
    ])  # fmt: skip

    def travels(value: Any) -> bool:
        try:
            arguments.encode_value(value, bound.SELF)
        except JobNotSerializable:
            return False
        return True

    return arguments


def _html(parts: tuple[str, dict[str, Any]]) -> UnicodeWithAttrs:
    """What ``md_to_html`` gives."""
    text, attributes = parts
    html: UnicodeWithAttrs = str.__new__(UnicodeWithAttrs, text)
    html.__dict__.update(attributes)
    return html


def _pack(document: BaseDocument, travels: Callable[[Any], bool]) -> dict[str, Any]:
    """Its values, children and flags, without other attributes that begin with ``_``.

    What an app has put on it and JSON cannot carry is left out, too, and logged: saving such a
    document must not fail.
    """
    kept = {}
    for name, value in [*document.__dict__.items()]:  # reading its meta adds it to the dict
        if name not in KEPT and (name.startswith("_") or name in MADE):
            continue
        if name == "flags" or document.meta.has_field(name) or travels(value):
            kept[name] = value
        else:
            logger.warning(
                "%s %s goes as a job's argument without its %r: JSON cannot carry a %s",
                document.doctype, document.get("name"), name, type(value).__name__,
            )  # fmt: skip
    return kept


def document_of(values: dict[str, Any]) -> BaseDocument:
    """The document as it was sent; its row is not read."""
    doctype = values.get("doctype")
    if not isinstance(doctype, str):
        raise ArgumentError("a document without a doctype")
    kind = get_controller(doctype)
    document: BaseDocument = kind.__new__(kind)
    document.__dict__.update(values)
    if not hasattr(kind, "_table_fieldnames"):  # later versions' classes find them out themselves
        document._table_fieldnames = {field.fieldname for field in document._get_table_fields()}
    for name in document._table_fieldnames:
        for child in values.get(name) or ():
            if isinstance(child, BaseDocument):
                child.parent_doc = document
    return document
