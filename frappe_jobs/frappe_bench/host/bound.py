"""A bound method as a job: its function, with the object, as it is in memory, for ``self``.

RQ sends such jobs, too: of documents with unsaved values or without a row, and of other objects.
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

#: Attributes that Frappe finds again in the job: an account's password must not travel.
LEFT_OUT = {"frappe.email.doctype.email_queue.email_queue.QueueBuilder": {"_email_account": None}}


@dataclass(frozen=True)
class BoundTo:
    """The object of a bound method, marked so that it travels with its own attributes."""

    object: Any


def split(method: Callable[..., Any]) -> tuple[Callable[..., Any], BoundTo] | None:
    """The function behind a bound method, and its object; None for any other callable."""
    if not inspect.ismethod(method) or isinstance(method.__self__, type):
        return None
    return method.__func__, BoundTo(method.__self__)


def as_called(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method; a class's function takes the keyword ``self`` as its first argument.

    By position, as a decorator need not call that argument ``self``.
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

    ``left_behind``: whether a document's attribute of that name is made anew in the job.
    """
    owner, kind = bound.object, type(bound.object)
    if isinstance(owner, BaseDocument):
        private = {
            name: value
            for name, value in [*owner.__dict__.items()]  # its meta may be added meanwhile
            if name.startswith("_") and not left_behind(name) and travels(value)
        }
        return {"document": owner, "private": private}
    if not hasattr(owner, "__dict__"):
        raise JobNotSerializable(
            f"Argument {SELF} is a {kind.__module__}.{kind.__qualname__}, which has no "
            "attributes that could travel as JSON. Use a function at the top of a module."
        ).about(argument=SELF)
    path = path_of(kind)
    return {"class": path, "attributes": vars(owner) | LEFT_OUT.get(path, {})}


def rebuilt(values: Mapping[str, Any]) -> Any:
    """The object as it was sent; no code of its class, an installed app's, is called."""
    if "document" in values:
        document = values["document"]
        if not isinstance(document, BaseDocument):
            raise ArgumentError(f"a {type(document).__name__}, and no document")
        document.__dict__.update(values["private"])
        return document
    kind = resolve(values["class"], frappe.get_installed_apps())
    if not isinstance(kind, type):
        raise ArgumentError(f"{values['class']!r}, which is no class")
    owner: Any = object.__new__(kind)
    owner.__dict__.update(values["attributes"])
    return owner


def for_people(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A job's arguments, as JSON carries them, for people: with the object's name in its place."""
    sent = _sent(arguments)
    if sent is None:
        return dict(arguments)
    document = document_of(arguments)
    return {**arguments, SELF: " ".join(document) if document else sent["class"]}


def document_of(arguments: Mapping[str, Any]) -> tuple[str, str] | None:
    """Doctype and name of the document whose method the job calls; from its arguments as sent."""
    sent = _sent(arguments) or {}
    if "document" not in sent:
        return None
    values = sent["document"]["value"]
    return values["doctype"], str(values.get("name") or "")


def _sent(arguments: Mapping[str, Any]) -> Any:
    sent = arguments.get(SELF)
    return sent["value"] if isinstance(sent, dict) and sent.get(TAG) == NAME else None
