"""A worker's log: a job's texts cannot forge its lines, and what a job prints goes into it.

Names, errors and methods are whatever was enqueued.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable
from copy import copy
from typing import Any

import celery.app.log
from celery.signals import after_setup_logger, after_setup_task_logger
from celery.utils.log import LoggingProxy

#: What begins a new line, steers a terminal, or cannot be written at all.
CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: Characters that are written of a line.
LINE_LIMIT = 20_000


def escaped(text: str) -> str:
    """The text on a single line, with Python's escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Escaping(logging.Formatter):
    """Escapes for another formatter; a traceback keeps its lines, indented."""

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if len(text) > LINE_LIMIT:
            text = f"{text[:LINE_LIMIT]}… ({len(text)} characters)"
        record = copy(record)  # other handlers get it unchanged
        record.msg, record.args = escaped(text), ()
        if record.exc_info:
            trace = self.formatException(record.exc_info).split("\n")
            record.exc_text = "\n".join(f"  {escaped(line)}" for line in trace)
        return self._formatter.format(record)


def _put_before(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Escaping):
            handler.setFormatter(Escaping(handler.formatter))


def connect() -> None:
    """Escape wherever Celery sets up this process's log."""
    after_setup_logger.connect(_put_before)
    after_setup_task_logger.connect(_put_before)


class Logging(celery.app.log.Logging):  # type: ignore[misc]
    """Celery's logging, but standard output and error become whole streams, not mere proxies."""

    def redirect_stdouts_to_logger(
        self, logger: logging.Logger, loglevel: Any = None, stdout: bool = True, stderr: bool = True
    ) -> Printed:
        to_log = LoggingProxy(logger, loglevel)
        printed = Printed(to_log.write)
        if stdout:
            sys.stdout = printed
        if stderr:
            sys.stderr = printed
        return printed


class Printed(io.TextIOBase):
    """Writes what is printed to the log.

    Code that asks for its file, such as a program that a job starts with this as its output, writes
    to the worker's standard error, which the log goes to.
    """

    name, mode, encoding, errors = "<log>", "w", "utf-8", "backslashreplace"
    line_buffering = write_through = True

    def __init__(self, to_log: Callable[[str], object]) -> None:
        self._to_log = to_log
        self.buffer = Bytes(self)

    def write(self, text: str) -> int:
        self._to_log(text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def reconfigure(self, **_: object) -> None:
        """Does nothing: the log decides how text is written."""

    def close(self) -> None:
        """Does nothing: a job that closes it must not close other jobs' output."""


class Bytes(io.RawIOBase):
    """Its ``buffer``, for code that prints bytes."""

    def __init__(self, text: Printed) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        found = bytes(data)
        self._text.write(found.decode(self._text.encoding, self._text.errors))
        return len(found)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        """Does nothing."""
