"""The exception that a job gets at its timeout."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from celery.exceptions import SoftTimeLimitExceeded

RQS = [import_module("rq.timeouts").JobTimeoutException] if find_spec("rq") else []

#: Celery's exception, and RQ's as well if RQ is installed: apps written for RQ catch RQ's.
JobTimeoutException: type[Exception] = type(
    "JobTimeoutException",
    (SoftTimeLimitExceeded, *RQS),
    {"__module__": __name__, "__doc__": "The job's time is over."},
)


def raise_timeout(*_: object) -> None:
    """The handler of billiard's signal, in a job's process."""
    raise JobTimeoutException()
