"""The arguments of a job that is to run again, changed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from frappe_jobs.errors import ArgumentError
from frappe_jobs.host.own_methods import RUN_DOC_METHOD
from frappe_jobs.job import Job
from frappe_jobs.message import Message
from frappe_jobs.runtime import Runtime
from frappe_jobs.texts.json_text import parse_json
from frappe_jobs.texts.masking import with_secrets_of, without_secrets

#: Arguments that say which code runs: with others it would be another method.
FIXED = frozenset({"method", "doc_method", "cmd", "job_type"})
OF_DOCUMENTS = frozenset({"doctype", "name"})


def editable(message: Message) -> str | None:
    """The arguments as text to edit, secrets hidden; None where nothing may be changed."""
    if message.method.startswith("frappe_jobs.") and message.method != RUN_DOC_METHOD:
        return None  # of a scheduled job, or one of our own: they name what is to be done
    return json.dumps(without_secrets(dict(message.arguments)), indent=2, ensure_ascii=False)


def checked(here: Runtime, job: Job, message: Message, text: str) -> Mapping[str, Any]:
    """The arguments that the text says, as JSON carries them, hidden ones as they were.

    Raises ArgumentError; BadMessage, MethodNotFound, MethodNotAllowed.
    """
    if editable(message) is None:
        raise ArgumentError("The arguments of this job cannot be changed.")
    try:
        given = parse_json(text)
    except ValueError as error:
        raise ArgumentError(f"The arguments are not JSON: {error}.") from None
    if not isinstance(given, dict):
        raise ArgumentError("The arguments must be a JSON object: names and values.")
    arguments: dict[str, Any] = with_secrets_of(given, dict(message.arguments))
    for name in sorted({*arguments} | {*message.arguments}):
        if _is_fixed(name, message) and not _is_same(name, arguments, message.arguments):
            raise ArgumentError(f"{name!r} says what is run, and stays as it is.")
    here.host.methods.checked(message.method, here.host.arguments.decode(arguments), job.site)
    return arguments


def _is_fixed(name: str, message: Message) -> bool:
    is_document = message.method.rpartition(".")[2] in ("run_doc_method", "execute_action")
    return name in FIXED or name.startswith("__") or (is_document and name in OF_DOCUMENTS)


def _is_same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (name in one) == (name in other) and one.get(name) == other.get(name)
