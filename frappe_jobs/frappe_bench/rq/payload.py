"""What a job of RQ's would call, read from its pickle.

A pickle may name any function of Python and have it called while it is read.  Here it gets the
types of ``PLAIN`` alone; whatever else it names becomes ``Named``, which is only a dotted path.
"""

from __future__ import annotations

import pickle
import zlib
from collections import OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import frappe
from frappe.model.base_document import BaseDocument

from frappe_jobs.errors import ArgumentError
from frappe_jobs.frappe_bench.host.arguments import document_of

#: Frappe's own function, which RQ calls for each of its jobs.
EXECUTE_JOB = "frappe.utils.background_jobs.execute_job"

#: What a pickle may make, by the path that it names it by.  None of these has attributes that a
#: pickle could set on the class itself.
PLAIN: dict[str, type] = {
    f"{kind.__module__}.{kind.__name__}": kind
    for kind in (
        bool, int, float, str, list, tuple, set, frozenset, dict, OrderedDict, defaultdict, deque,
        date, datetime, time, timedelta, timezone, Decimal, UUID, frappe._dict,
    )
} | {"frappe.model.docstatus.DocStatus": int}  # fmt: skip


class Named:
    """An object of a class that is not known yet; a subclass is made for each name."""

    path = ""


class Reader(pickle.Unpickler):
    """Reads a pickle, and calls nothing of what it names."""

    def find_class(self, module: str, name: str) -> type:
        path = f"{module}.{name}"
        return PLAIN.get(path) or type("Named", (Named,), {"path": path})


def call_of(data: bytes) -> dict[str, Any]:
    """What Frappe's enqueue gave to RQ: ``site``, ``user``, ``method``, ``kwargs``, …

    No site need be open.  Raises ArgumentError, which says what the pickle names.
    """
    try:
        function, instance, args, call = Reader(BytesIO(_unpacked(data))).load()
    except Exception as error:  # of a pickle anything may be wrong
        raise ArgumentError(f"it cannot be read without running it: {error!r:.200}") from None
    if function != EXECUTE_JOB or instance is not None or args:
        raise ArgumentError(f"it calls {function!r:.200}, not Frappe's execute_job")
    if not isinstance(call, dict) or not isinstance(call.get("site"), str):
        raise ArgumentError("it names no site")
    if isinstance(method := call.get("method"), type) and issubclass(method, Named):
        call["method"] = method.path
    if not isinstance(call.get("method"), str) or not isinstance(call.get("kwargs"), dict):
        raise ArgumentError(f"its method is a {type(call.get('method')).__name__}")
    return call


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:  # as versions of RQ before 1.0 wrote it
        return data


def arguments_of(call: dict[str, Any]) -> dict[str, Any]:
    """The method's arguments, its documents among them; the call's site is open.

    Raises ArgumentError for anything else that is no plain value.
    """
    found: dict[str, Any] = _restored(call["kwargs"])
    return found


def _restored(value: Any) -> Any:
    if isinstance(value, Named):
        return _document(value)
    if isinstance(value, type):
        raise ArgumentError(f"an argument is {getattr(value, 'path', value)!r}, by its name")
    if isinstance(value, dict):
        for key in value:
            value[key] = _restored(value[key])
    elif isinstance(value, list):
        value[:] = map(_restored, value)
    elif type(value) in (tuple, set, frozenset, deque):
        return type(value)(map(_restored, value))
    return value


def _document(named: Named) -> BaseDocument:
    """The document whose values these are, if it is one; its class is its doctype's."""
    values = _restored(vars(named))
    if "doctype" not in values:
        raise ArgumentError(f"an argument is a {named.path}, which is no document")
    document = document_of(values)
    kind = type(document)
    if f"{kind.__module__}.{kind.__qualname__}" != named.path:
        raise ArgumentError(f"an argument is a {named.path}, and no {values['doctype']}")
    return document
