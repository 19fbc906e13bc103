"""The log of a worker or a scheduler: level, form, file; what jobs print goes into it."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery.app.log
from celery.signals import after_setup_logger, after_setup_task_logger
from celery.utils.log import LoggingProxy

from frappe_jobs.celery.log_file import LogFile
from frappe_jobs.celery.log_format import Json, Text


@dataclass(frozen=True)
class Log:
    """How a process writes its log."""

    level: int = logging.INFO
    #: ``text`` or ``json``.
    style: str = "text"
    #: None: standard error.
    file: Path | None = None


class Output:
    """Where and how this process logs: Celery sets its log up once in a process as well."""

    log = Log()


def _format(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        if Output.log.style == "json":
            handler.setFormatter(Json())
        elif not isinstance(handler.formatter, Text):
            handler.setFormatter(Text(handler.formatter))


def connect() -> None:
    """Escape wherever Celery sets up this process's log, and say which job a line belongs to."""
    after_setup_logger.connect(_format)
    after_setup_task_logger.connect(_format)


class Logging(celery.app.log.Logging):  # type: ignore[misc]
    """Celery's logging, with our file.

    Standard output and error become whole streams, not mere proxies.
    """

    def supports_color(self, colorize: bool | None = None, logfile: Any = None) -> bool:
        return not Output.log.file and bool(super().supports_color(colorize, logfile))

    def setup_handlers(self, logger: logging.Logger, *arguments: Any, **options: Any) -> Any:
        made = super().setup_handlers(logger, *arguments, **options)
        _format(made)
        return made

    def _detect_handler(self, logfile: Any = None) -> logging.Handler:
        if Output.log.file:
            return LogFile(Output.log.file)
        handler: logging.Handler = super()._detect_handler(logfile)
        return handler

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
