"""What the worker's parent knows of a job: it writes the end that a killed process cannot."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import InvalidTaskError, Terminated, WorkerLostError
from celery.utils.imports import symbol_by_name
from celery.worker.request import Request

from frappe_jobs.celery.app import RUNTIME
from frappe_jobs.errors import BadMessage
from frappe_jobs.message import HEADER, TASK, Message


class JobRequest(Request):  # type: ignore[misc]
    """A message of ours in the worker's parent."""

    def __init__(self, message: Any, *arguments: Any, **options: Any) -> None:
        # Before it is decoded: a team's app may accept pickle for its own tasks.
        if message.content_type != "application/json":
            raise InvalidTaskError(f"{TASK} takes JSON alone, not {message.content_type!r}")
        super().__init__(message, *arguments, **options)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """At the hard limit the process is killed; only the parent is left to say so."""
        if not soft:
            self._end(f"timed out after {self.time_limits[1]} s and was killed")
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # as billiard wraps it on its way here
            error = error.exc
        if isinstance(error, (WorkerLostError, Terminated)):
            self._end(f"its process died: {error}")
        return super().on_failure(exc_info, *arguments, **options)

    def _end(self, reason: str) -> None:
        """Twice is harmless: only the first end of a job counts."""
        try:
            message = Message.from_wire(self._request_dict.get(HEADER), self.args[0])
        except (BadMessage, IndexError):
            return
        symbol_by_name(RUNTIME)(self._app).killed(message, reason)
