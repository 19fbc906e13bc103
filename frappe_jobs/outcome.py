"""How an attempt ended, and what its record keeps of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from frappe_jobs.errors import JobFailed
from frappe_jobs.texts.error_text import described, traceback_of, type_of


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: with its result, or with its error and the reason for people."""

    result: Any = None  # as JSON carries it
    text: str = "null"  # the same as a text
    value: Any = None  # what the method returned, for the callbacks
    error: BaseException | None = None
    reason: str = ""
    run_again_in: int | None = None  # seconds
    is_written: bool = False  # in a tracked job's Background Task
    could_not_begin: bool = False  # the site's database was away

    def bare(self, refused: Exception) -> Outcome:
        """The same outcome without what could not be written."""
        if self.error is None:
            return replace(self, result=None, text="null")
        reason = f"{type(self.error).__name__}; its text could not be kept: {described(refused)}"
        return replace(self, error=JobFailed(reason), reason=reason)

    def failure(self) -> dict[str, str]:
        """The fields of the record that say what went wrong."""
        error = self.error or JobFailed()
        # Celery raises the error in a caller that asks for the result: it must be an Exception.
        kind = error if isinstance(error, Exception) else JobFailed()
        return {"reason": self.reason, "error": type_of(kind), "traceback": traceback_of(error)}
