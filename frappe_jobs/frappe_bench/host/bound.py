"""A bound method as a job: its function, with the object as it is in memory for ``self``.

So it is on RQ: a document's unsaved values, one that has no row at all, an object that is none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import frappe
from frappe.model.base_document import BaseDocument

from frappe_jobs.arguments import TAG
from frappe_jobs.errors import ArgumentError, JobNotSerializable
from frappe_jobs.methods import path_of, resolve

#: The argument that the object travels as.
SELF = "self"
NAME = "object"

#: What Frappe finds again where it is needed: the account's password stays out of the job.
LEFT_OUT = {"frappe.email.doctype.email_queue.email_queue.QueueBuilder": {"_email_account": None}}


@dataclass(frozen=True)
class BoundTo:
    """The object of a bound method, marked to travel with its own attributes."""

    object: Any


def split(method: Callable[..., Any]) -> tuple[Callable[..., Any], BoundTo] | None:
    """The function behind a bound method, and its object; None for any other callable."""
    if not inspect.ismethod(method) or isinstance(method.__self__, type):
        return None
    return method.__func__, BoundTo(method.__self__)


def as_called(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method; if it is a class's function, ``self`` among the keywords is its first argument.

    By place, as what decorates it need not call it ``self``.
    """
    if not inspect.isfunction(method) or "." not in method.__qualname__:
        return method

    @wraps(method)
    def called(*given: Any, **arguments: Any) -> Any:
        if SELF not in arguments:
            return method(*given, **arguments)
        return method(arguments.pop(SELF), *given, **arguments)

    return called


def attributes(
    bound: BoundTo, left_behind: Callable[[str], bool], travels: Callable[[Any], bool]
) -> dict[str, Any]:
    """What is sent of the object; a document's own ``_`` attributes, if they travel, go beside it.

    ``left_behind``: the names of a document's attributes that are made anew there.
    """
    one = bound.object
    if isinstance(one, BaseDocument):
        private = {
            name: value
            for name, value in [*one.__dict__.items()]  # its meta may come there meanwhile
            if name.startswith("_") and not left_behind(name) and travels(value)
        }
        return {"document": one, "private": private}
    if not hasattr(one, "__dict__"):
        raise JobNotSerializable(
            f"Argument {SELF} is a {type(one).__module__}.{type(one).__qualname__}, which has no "
            "attributes that could travel as JSON. Use a function at the top of a module."
        ).about(argument=SELF)
    path = path_of(type(one))
    return {"class": path, "attributes": vars(one) | LEFT_OUT.get(path, {})}


def rebuilt(values: Mapping[str, Any]) -> Any:
    """The object as it was sent; of a class of an installed app, whose code is not called."""
    if "document" in values:
        document = values["document"]
        if not isinstance(document, BaseDocument):
            raise ArgumentError(f"a {type(document).__name__}, and no document")
        document.__dict__.update(values["private"])
        return document
    kind = resolve(values["class"], frappe.get_installed_apps())
    if not isinstance(kind, type):
        raise ArgumentError(f"{values['class']!r}, which is no class")
    one: Any = object.__new__(kind)
    one.__dict__.update(values["attributes"])
    return one


def for_people(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A job's arguments, as JSON carries them, for people: the object's name instead of it all."""
    sent = _sent(arguments)
    if sent is None:
        return dict(arguments)
    document = document_of(arguments)
    return {**arguments, SELF: " ".join(document) if document else sent["class"]}


def document_of(arguments: Mapping[str, Any]) -> tuple[str, str] | None:
    """Doctype and name of the document whose method this is, in a job's arguments as sent."""
    sent = _sent(arguments) or {}
    if "document" not in sent:
        return None
    values = sent["document"]["value"]
    return values["doctype"], str(values.get("name") or "")


def _sent(arguments: Mapping[str, Any]) -> Any:
    one = arguments.get(SELF)
    return one["value"] if isinstance(one, dict) and one.get(TAG) == NAME else None
