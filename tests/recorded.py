"""Jobs that only the ledger knows of."""

from __future__ import annotations

import time
from uuid import uuid4

from frappe_jobs.ledger.record import Attempt
from frappe_jobs.message import Message, Sending

SOMEBODY, ANOTHER = "worker@here/1", "worker@there/2"


def message(job_id=None, **values):
    message_id = str(uuid4())
    return Message(**{
        "id": message_id, "job_id": job_id or message_id, "site": "site1", "user": "grete",
        "method": "acme.tasks.ping", "queue": "default", "name": "ping", "timeout": 300,
        "enqueued_at": time.time(),
    } | values)  # fmt: skip


def recorded(ledger, *arguments, **values):
    """A job that waits."""
    made = message(*arguments, **values)
    assert ledger.record([Sending(made)]) == [True]
    return made


def begun(ledger, *arguments, **values):
    """A job that somebody runs."""
    made = recorded(ledger, *arguments, **values)
    assert ledger.start(made, SOMEBODY) == Attempt(1)
    return made


def come_due(ledger, one):
    """The time of a job that waits has come, and it waits on the broker."""
    ledger.reschedule(one, time.time() - 1)
    ledger.send_due(ledger.due().due)
