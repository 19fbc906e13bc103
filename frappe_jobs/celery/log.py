"""A worker's log: a job's text cannot forge a line of it.

Names, errors and methods are whatever somebody enqueued.
"""

from __future__ import annotations

import logging
import re
from copy import copy
from typing import Any

from celery.signals import after_setup_logger, after_setup_task_logger

#: What begins a line anew, steers a terminal, or cannot be written at all.
CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: Of a line so many characters are written.
LINE_LIMIT = 20_000


def escaped(text: str) -> str:
    """The text on one line, as Python would write it."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Escaping(logging.Formatter):
    """Goes before a formatter; a traceback keeps its lines, moved to the right."""

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if len(text) > LINE_LIMIT:
            text = f"{text[:LINE_LIMIT]}… ({len(text)} characters)"
        record = copy(record)  # other handlers have it as it came
        record.msg, record.args = escaped(text), ()
        if record.exc_info:
            record.exc_text = _indented(self.formatException(record.exc_info))
        return self._formatter.format(record)


def _indented(trace: str) -> str:
    return "\n".join(f"  {escaped(line)}" for line in trace.split("\n"))


def _put_before(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Escaping):
            handler.setFormatter(Escaping(handler.formatter))


def connect() -> None:
    """Do so wherever Celery sets up the log of this process."""
    after_setup_logger.connect(_put_before)
    after_setup_task_logger.connect(_put_before)
