"""A call of Frappe's as a message, checked: what is to run, with which options, and when."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from types import FunctionType
from typing import Any, TypeGuard

from celery import Task
from celery.local import Proxy

from frappe_jobs import runtime
from frappe_jobs.api.later import Method
from frappe_jobs.context import require_session
from frappe_jobs.dispatch import Batch, Options
from frappe_jobs.errors import ArgumentError, GuestWarning
from frappe_jobs.host.own_methods import RUN_DOC_METHOD
from frappe_jobs.message import Sending
from frappe_jobs.methods import as_path
from frappe_jobs.scheduler.sync import zone_of
from frappe_jobs.texts.moments import moment, seconds_of

#: The names of enqueue's options, in an item of enqueue_many.
OPTIONS = {option.name for option in fields(Options)}


def compose(
    method: Method,
    kwargs: Mapping[str, Any],
    options: Options,
    batch: Batch | None = None,
) -> Sending:
    """The call as a message, checked."""
    if document := _document_method(method):
        doctype, name, doc_method = document
        method = RUN_DOC_METHOD
        options = replace(options, job_name=options.job_name or f"{doctype}.{doc_method}")
        kwargs = {"doctype": doctype, "name": name, "doc_method": doc_method} | dict(kwargs)
    elif not callable(method) and not isinstance(method, str):
        raise ArgumentError(f"method must be a function or its dotted path; not {method!r}.")
    here, session = runtime.current(), batch.session() if batch else require_session()
    message = here.dispatcher.compose(method, kwargs, options, session, batch=batch)
    for promise in here.broker.to_be_told(message):
        warnings.warn(promise, GuestWarning, stacklevel=4)
    return Sending(message, claim=options.deduplicate, replaces=options.debounce)


def item(given: object, batch: Batch) -> tuple[Sending, Options]:
    """An item of enqueue_many, and its options."""
    if not isinstance(given, Mapping) or "method" not in given:
        raise ArgumentError(f'it must be a dict such as {{"method": …}}; not {given!r}.')
    kwargs = dict(given)
    method = kwargs.pop("method")
    if kwargs.pop("now", False) or not kwargs.pop("is_async", kwargs.pop("async", True)):
        raise ArgumentError("it is to be called here (now, is_async); a batch is for workers.")
    if is_task(method):
        raise ArgumentError(f"{method.name} is a Celery task; those are enqueued one by one.")
    options = Options(**{name: kwargs.pop(name) for name in OPTIONS & kwargs.keys()})
    when, delta = kwargs.pop("enqueue_at", None), kwargs.pop("enqueue_in", None)
    if when is not None and delta is not None:
        raise ArgumentError("it has both enqueue_at and enqueue_in: one of them says when.")
    due = at(when) if when is not None else after(delta, batch.now) if delta is not None else None
    return for_then(compose(method, kwargs, options, batch), due), options


def at(when: datetime) -> float | None:
    """That moment in seconds since 1970; None if it is over."""
    due = moment_on(require_session().site, when)
    return due if due > time.time() else None


def after(delta: timedelta | float, now: Callable[[], float]) -> float | None:
    """That much later than ``now`` says; None for no time at all."""
    seconds = seconds_of(delta)
    return now() + seconds if seconds else None


def for_then(sending: Sending, due: float | None) -> Sending:
    """The same, for then; raises ArgumentError where it would have expired by that time."""
    if due is None:
        return sending
    expires_at = sending.message.expires_at
    if expires_at is not None and expires_at <= due:
        raise ArgumentError("It would be due when it has expired, so it would never begin.")
    return replace(sending, at=due)


def is_task(method: object) -> TypeGuard[Any]:
    """Whether it is a Celery task; then this process has its app.

    Asked of its type: a shared task that is asked itself binds itself for good to the app that is
    there, and has one made up where ours is not made yet.
    """
    if not issubclass(type(method), (Task, Proxy)):
        return False
    runtime.current().app  # noqa: B018 - made by this
    return True


def _document_method(method: object) -> tuple[str, str, str] | None:
    if isinstance(method, FunctionType) or not callable(method):  # bound to nothing
        return None
    return runtime.current().host.methods.document_method(method)


def call_here(method: Method, kwargs: Mapping[str, Any]) -> Any:
    """now=True: a plain call of a method that a worker may run."""
    if _document_method(method) and callable(method):
        return method(**kwargs)
    path = as_path(method)
    return runtime.current().host.methods.checked(path, kwargs, require_session().site)(**kwargs)


def moment_on(site: str, when: datetime) -> float:
    """That time in seconds since 1970; a naive one is of the site's clocks; ArgumentError."""
    here = runtime.current()
    return moment(when, lambda: zone_of(here.settings, site, here.host.schedule.time_zone(site)))
