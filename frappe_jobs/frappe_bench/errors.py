"""Our errors as who uses Frappe's functions expects them: each is Frappe's or redis-py's, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import frappe
from redis.exceptions import ConnectionError

from frappe_jobs import errors
from frappe_jobs.errors import BrokerUnavailable, QueueOverloaded, UnknownQueue

#: Frappe's own error of a queue that is full; 15.50 has none, 15.72 has.
FRAPPES_QUEUE_OVERLOADED: Any = getattr(frappe, "QueueOverloaded", Exception)


class QueueUnavailable(BrokerUnavailable, ConnectionError):
    """The broker is out of reach; for who expects redis-py's error, it is that one as well."""


class QueueFull(QueueOverloaded, FRAPPES_QUEUE_OVERLOADED):  # type: ignore[misc]
    """The queue is full; for who expects Frappe's error of it, it is that one as well."""


class PermissionError(errors.PermissionError, frappe.PermissionError):  # type: ignore[misc]
    """That is not for this user to do; over HTTP 403."""


class JobError(errors.JobError, frappe.ValidationError):  # type: ignore[misc]
    """That cannot be done with the job as it stands; over HTTP 417."""


@contextmanager
def frappes_errors() -> Iterator[None]:
    """Raise ours as who uses Frappe's functions expects them."""
    try:
        yield
    except BrokerUnavailable as error:
        raise QueueUnavailable(str(error)) from None
    except QueueOverloaded as error:
        raise QueueFull(str(error)) from None


@contextmanager
def refusals() -> Iterator[None]:
    """Have a refusal shown in the Desk; any other error is one of the server's, and is logged."""
    try:
        yield
    except errors.PermissionError as error:
        frappe.throw(str(error), PermissionError)
    except (errors.JobError, UnknownQueue) as error:
        frappe.throw(str(error), JobError)
