"""Our errors as callers of Frappe's functions expect them: each is also Frappe's or redis-py's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import frappe
from redis.exceptions import ConnectionError

from frappe_jobs import errors
from frappe_jobs.errors import BrokerUnavailable, QueueOverloaded, UnknownQueue

#: Frappe's own error for a full queue; 15.50 has none, 15.72 has.
FRAPPES_QUEUE_OVERLOADED: Any = getattr(frappe, "QueueOverloaded", Exception)


class QueueUnavailable(BrokerUnavailable, ConnectionError):
    """The broker is out of reach; it is also the error of redis-py that callers expect."""


class QueueFull(QueueOverloaded, FRAPPES_QUEUE_OVERLOADED):  # type: ignore[misc]
    """The queue is full; it is also the error of Frappe that callers expect."""


class PermissionError(errors.PermissionError, frappe.PermissionError):  # type: ignore[misc]
    """This user may not do that; over HTTP 403."""


class JobError(errors.JobError, frappe.ValidationError):  # type: ignore[misc]
    """That cannot be done with the job in its status; over HTTP 417."""


@contextmanager
def frappes_errors() -> Iterator[None]:
    """Raise our errors as callers of Frappe's functions expect them."""
    try:
        yield
    except BrokerUnavailable as error:
        raise QueueUnavailable(str(error)) from None
    except QueueOverloaded as error:
        raise QueueFull(str(error)) from None


@contextmanager
def refusals() -> Iterator[None]:
    """Show a refusal in the Desk; any other error is the server's, and is logged."""
    try:
        yield
    except errors.PermissionError as error:
        frappe.throw(str(error), PermissionError)
    except (errors.JobError, UnknownQueue) as error:
        frappe.throw(str(error), JobError)
