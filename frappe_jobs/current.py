"""The job that runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from frappe_jobs.message import Message


@dataclass
class Retries:
    """How often the job that runs here is run again if it fails; its code may set fewer."""

    left: int = 0


@dataclass(frozen=True)
class CurrentJob:
    """The job that runs here, as ``get_current_job()`` gives it."""

    id: str
    site: str
    user: str
    method: str
    kwargs: Mapping[str, Any]
    queue: str
    attempt: int
    message: Message
    #: The name by which this process holds the job's lease.
    holder: str
    retries: Retries = field(default_factory=Retries, compare=False)


_current: ContextVar[CurrentJob | None] = ContextVar("job", default=None)


def current_job() -> CurrentJob | None:
    """The job that this code runs in, or None."""
    return _current.get()


@contextmanager
def running(
    message: Message,
    kwargs: Mapping[str, Any],
    attempt: int,
    holder: str,
    retries: Retries | None = None,
) -> Iterator[None]:
    """Inside, ``current_job`` gives this job; ``kwargs`` may be filled in later."""
    job = CurrentJob(
        id=message.job_id, site=message.site, user=message.user, method=message.method,
        kwargs=kwargs, queue=message.queue, attempt=attempt, message=message, holder=holder,
        retries=retries or Retries(),
    )  # fmt: skip
    token = _current.set(job)
    try:
        yield
    finally:
        _current.reset(token)
