"""The form of the log's lines: text or JSON, each with the job that it belongs to.

A job's texts cannot forge lines: names, errors and methods are whatever was enqueued.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from copy import copy
from datetime import datetime, timezone
from typing import Any

from celery._state import get_current_task

from frappe_jobs.message import HEADER

#: What begins a new line, steers a terminal, or cannot be written at all.
CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: Characters that are written of a line.
LINE_LIMIT = 20_000

#: What a line says of its job, by the names in the message's header.
FACTS = {"site": "site", "method": "method", "job_id": "job_id", "id": "message_id",
         "queue": "queue"}  # fmt: skip

#: The header of the message that a worker's parent deals with.
_about: ContextVar[Any] = ContextVar("about", default=None)


@contextmanager
def about(header: object) -> Iterator[None]:
    """Inside, each line of this thread's belongs to the job with that header."""
    token = _about.set(header)
    try:
        yield
    finally:
        _about.reset(token)


def about_request(request: Any) -> AbstractContextManager[None]:
    """The same for a request of Celery's in a worker's parent."""
    return about(request._request_dict.get(HEADER))


def forget() -> None:
    """In a process that was just forked: what its parent deals with is not its own."""
    _about.set(None)


def facts() -> Mapping[str, str]:
    """What is known of the job that this thread runs, or deals with; {} if there is none."""
    if (task := get_current_task()) and (request := task.request):
        header = request.get(HEADER) or (request.headers or {}).get(HEADER)
    else:
        header = _about.get()
    if not isinstance(header, dict):
        return {}
    return {name: str(header[key]) for key, name in FACTS.items() if header.get(key)}


def escaped(text: str) -> str:
    """The text on a single line, with Python's escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def message_of(record: logging.LogRecord) -> str:
    """What it says; the beginning, if that is too long."""
    text = record.getMessage()
    if len(text) > LINE_LIMIT:
        return f"{text[:LINE_LIMIT]}… ({len(text)} characters)"
    return text


class Text(logging.Formatter):
    """Escapes for another formatter; a traceback keeps its lines, indented.

    The job stands behind the process's name.
    """

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        text = message_of(record)
        record = copy(record)  # other handlers get it unchanged
        if job := facts():
            named = " ".join(job[name] for name in ("site", "method", "job_id") if name in job)
            record.processName = f"{record.processName} {escaped(named)}"
        record.msg, record.args = escaped(text), ()
        if record.exc_info:
            trace = self.formatException(record.exc_info).split("\n")
            record.exc_text = "\n".join(f"  {escaped(line)}" for line in trace)
        return self._formatter.format(record)


class Json(logging.Formatter):
    """An object on a line of its own, with the traceback in it."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": at.isoformat(timespec="milliseconds"), "level": record.levelname,
            "logger": record.name, "process": record.processName, "pid": record.process,
            **facts(), "message": message_of(record),
        }  # fmt: skip
        if action := getattr(record, "action", None):
            line["action"] = str(action)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = json.dumps(line, ensure_ascii=False)
        return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
