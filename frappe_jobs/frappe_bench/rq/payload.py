"""What a job of RQ's would call, read from its pickle.

A pickle may name any function of Python and have it called while it is read.  Here it gets the
types of ``PLAIN`` alone; whatever else it names becomes ``Named``, which is only a dotted path.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import frappe
from frappe.model.base_document import BaseDocument

from frappe_jobs.errors import ArgumentError, MessageTooLarge
from frappe_jobs.frappe_bench.host.arguments import document_of
from frappe_jobs.frappe_bench.rq.pickles import Named, read

#: Frappe's own function, which RQ calls for each of its jobs.
EXECUTE_JOB = "frappe.utils.background_jobs.execute_job"

#: What a pickle may make, by the path that it names it by.
PLAIN: dict[str, type] = {
    f"{kind.__module__}.{kind.__name__}": kind
    for kind in (
        bool, int, float, str, list, tuple, set, frozenset, dict, OrderedDict, defaultdict, deque,
        date, datetime, time, timedelta, timezone, Decimal, UUID, frappe._dict,
    )
} | {"frappe.model.docstatus.DocStatus": int}  # fmt: skip


def call_of(data: bytes, largest: int) -> dict[str, Any]:
    """What Frappe's enqueue gave to RQ: ``site``, ``user``, ``method``, ``kwargs``, …

    No site need be open.  Raises ArgumentError, which says what the pickle names, or that it holds
    over ``largest`` bytes.
    """
    found = read(data, PLAIN, largest)
    if not isinstance(found, tuple) or len(found) != 4:
        raise ArgumentError("it is no job of RQ's")
    function, instance, args, call = found
    if function != EXECUTE_JOB or instance is not None or args:
        raise ArgumentError(f"it calls {function!r:.200}, not Frappe's execute_job")
    if not isinstance(call, dict) or not isinstance(call.get("site"), str):
        raise ArgumentError("it names no site")
    if isinstance(method := call.get("method"), type) and issubclass(method, Named):
        call["method"] = method.path
    if not isinstance(call.get("method"), str) or not isinstance(call.get("kwargs"), dict):
        raise ArgumentError(f"its method is a {type(call.get('method')).__name__}")
    return call


def arguments_of(call: dict[str, Any], largest: int) -> dict[str, Any]:
    """The method's arguments, its documents among them; the call's site is open.

    Raises ArgumentError for anything else that is no plain value; MessageTooLarge where a text or
    a list, though it is there once, is named so often that all of it is over ``largest`` bytes.
    """
    found: dict[str, Any] = Restoring(largest).restored(call["kwargs"])
    return found


class Restoring:
    """Makes a job's arguments of what its pickle held."""

    def __init__(self, largest: int) -> None:
        self._left = largest

    def restored(self, value: Any) -> Any:
        self._count(value)
        if isinstance(value, Named):
            return self._document(value)
        if isinstance(value, type):
            raise ArgumentError(f"an argument is {getattr(value, 'path', value)!r}, by its name")
        if isinstance(value, dict):
            for key in value:
                self._count(key)
                value[key] = self.restored(value[key])
        elif isinstance(value, list):
            value[:] = map(self.restored, value)
        elif type(value) in (tuple, set, frozenset, deque):
            return type(value)(map(self.restored, value))
        return value

    def _count(self, value: Any) -> None:
        """Each value takes a byte of the message at least, a text as many as it is long."""
        self._left -= len(value) + 1 if isinstance(value, (str, bytes)) else 1
        if self._left < 0:
            raise MessageTooLarge()

    def _document(self, named: Named) -> BaseDocument:
        """The document whose values these are, if it is one; its class is its doctype's."""
        values = self.restored(vars(named))
        if "doctype" not in values:
            raise ArgumentError(f"an argument is a {named.path}, which is no document")
        document = document_of(values)
        kind = type(document)
        if f"{kind.__module__}.{kind.__qualname__}" != named.path:
            raise ArgumentError(f"an argument is a {named.path}, and no {values['doctype']}")
        return document
