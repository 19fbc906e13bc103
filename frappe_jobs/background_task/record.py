"""What a Background Task says: its fields, from a job's message and from what the ledger knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from frappe_jobs.host.own_methods import RUN_DOC_METHOD
from frappe_jobs.ledger import record
from frappe_jobs.message import Message
from frappe_jobs.texts.error_text import safe

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = (
    "Queued", "Running", "Completed", "Failed", "Cancelled",
)  # fmt: skip
OPEN, ENDED = (QUEUED, RUNNING), (COMPLETED, FAILED, CANCELLED)
#: The record's words for the ledger's.
STATUS_OF = {
    record.QUEUED: QUEUED, record.STARTED: RUNNING, record.FINISHED: COMPLETED,
    record.FAILED: FAILED, record.CANCELLED: CANCELLED,
}  # fmt: skip

#: Characters; of a longer text the end is kept, where a traceback names the error.
LONGEST_EXCEPTION = 1_000_000
#: Characters; a longer result is not kept at all: half of its JSON would be of no use.
LONGEST_RESULT = 10_000_000
#: Characters of a dotted path, and of what people read.
PATH = 255
#: The longest texts of the fields that must be kept whole.
LENGTHS = {
    "task_id": 140, "job_id": PATH, "message_id": 140, "user": PATH, "method": PATH, "queue": 140
}  # fmt: skip

LOST = (
    "nothing is known of its job any more: it was never sent, or Redis has lost it; it may have run"
)

#: The fields of a listing: without the long texts.
LISTED = (
    "task_id", "job_id", "task_name", "user", "method", "queue", "status", "progress", "stage",
    "creation", "started_at", "ended_at", "ref_doctype", "ref_docname", "message_id",
)  # fmt: skip

#: Clears what an earlier run has left.
BLANK: Mapping[str, Any] = {
    "progress": 0.0, "stage": None, "result": None, "exception": None, "started_at": None,
    "ended_at": None,
}  # fmt: skip


def queued(message: Message) -> dict[str, Any]:
    """The fields of a record whose job waits as that message."""
    waits = {"status": QUEUED, "message_id": message.id, "header": message.header_json}
    return {**BLANK, **waits}


def record_of(message: Message) -> dict[str, Any]:
    """The whole record of a job that waits as that message."""
    doctype, docname = None, None
    if message.method == RUN_DOC_METHOD:
        doctype, docname = message.arguments.get("doctype"), message.arguments.get("name")
    return queued(message) | {
        "task_id": message.task_id, "job_id": message.job_id, "task_name": message.name,
        "user": message.user, "method": message.method, "queue": message.queue,
        "arguments": message.arguments_json, "ref_doctype": doctype,
        "ref_docname": None if docname is None else str(docname),
    }  # fmt: skip


def message_of(site: str, header: str, arguments: str) -> Message:
    """The message that a record of that site keeps; raises BadMessage."""
    # The record names another site where the database is a copy of that one's.
    return replace(Message.from_json(f'{{"header":{header},"arguments":{arguments}}}'), site=site)


def end_values(end: record.End, known: record.Record | None) -> dict[str, Any]:
    """The fields of a record whose job has ended; ``known`` is what the ledger still knows."""
    values = {
        "status": STATUS_OF[end.status], "ended_at": _utc(end.ended_at), "exception": end.exception
    } | ({} if end.result is None else {"result": end.result})  # fmt: skip
    return (_said(known) if known else {}) | values


def facts(known: record.Record) -> dict[str, Any]:
    """What the ledger knows of a job, as fields of its record."""
    # A job that returned nothing may have stored a result in its record.
    result = {} if known.result is None else {"result": json.dumps(known.result)}
    return _said(known) | result | {
        "status": STATUS_OF[known.status],
        "started_at": _utc(known.started_at), "ended_at": _utc(known.ended_at),
        "exception": None if known.status == record.STARTED else known.traceback or known.reason,
    }  # fmt: skip


def _said(known: record.Record) -> dict[str, Any]:
    if known.status == record.FINISHED:
        return {"progress": 100.0} | ({"stage": known.stage} if known.stage else {})
    said = {"progress": known.progress, "stage": known.stage}
    return {name: value for name, value in said.items() if value is not None}


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def storable(values: dict[str, Any]) -> dict[str, Any]:
    """The values as any database takes them; texts for people may be cut."""
    return values | {name: cut(values[name]) for name, cut in CUTS.items() if name in values}


def _cut(part: slice) -> Callable[[object], str | None]:
    """Gives that part of a text, without characters that a database refuses."""
    return lambda value: None if value is None else safe(str(value))[part]


CUTS: dict[str, Callable[[Any], Any]] = {
    "task_name": _cut(slice(PATH)),
    "stage": _cut(slice(PATH)),
    "ref_doctype": _cut(slice(140)),
    "ref_docname": _cut(slice(PATH)),
    "exception": _cut(slice(-LONGEST_EXCEPTION, None)),
    "result": lambda value: None if value and len(str(value)) > LONGEST_RESULT else value,
}
