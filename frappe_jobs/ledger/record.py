"""What the ledger knows of one message of a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frappe_jobs.errors import BadMessage
from frappe_jobs.message import Message
from frappe_jobs.values import quick

QUEUED, STARTED, FINISHED, FAILED, CANCELLED = (
    "queued", "started", "finished", "failed", "cancelled",
)  # fmt: skip
OPEN, ENDED = (QUEUED, STARTED), (FINISHED, FAILED, CANCELLED)
#: Begins the keys of the ends that Background Tasks do not say yet, a hash for each site.
UNWRITTEN = "unwritten"


@dataclass(frozen=True)
class Attempt:
    """A worker's start of a message: which one it is, and how many retries the job has had."""

    number: int
    retries: int = 0
    #: Its record was lost, so that nobody knows what became of it before.
    is_recorded_anew: bool = False

    @property
    def may_have_run(self) -> bool:
        return self.number > 1 or self.is_recorded_anew


@dataclass(frozen=True)
class Refusal:
    """Why a worker may not start a message."""

    #: Another process runs it; ask again after that many seconds.
    wait: float | None = None
    #: How many processes died of it: too many for another start.
    died: int | None = None
    #: How many of them died after that was known, while they ended it.
    died_ending_it: int = 0
    #: Another job took its id, when its message seemed to be lost.
    superseded: bool = False
    #: It bears the id of another message.
    forged: bool = False
    #: It waits for its time: another message comes then.
    delayed: bool = False
    #: The key of the limit that has no room for it: another message comes when there is.
    limited: str | None = None
    #: It is too late to begin it.
    expired: bool = False
    #: Its worker holds the message no longer: another one of the job waits, or runs.
    given_back: bool = False
    #: It was taken ahead, and by now an at-front job waits, or its queue or site is paused.
    others_first: bool = False


@dataclass(frozen=True)
class End:
    """How a tracked job ended, kept until its Background Task says so as well."""

    task_id: str
    queue: str
    status: str
    ended_at: float
    exception: str | None = None  # the traceback, else the reason
    result: str | None = None  # JSON


@quick
@dataclass(frozen=True)
class Record:
    """What is known of one message of a job; None in a field: not known yet."""

    message: Message
    status: str
    #: The number of the newest attempt; 0: it was never begun.
    attempt: int = 0
    #: How many processes have died of it since an attempt came to an end of its own.
    died: int = 0
    worker: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None
    error: str | None = None
    traceback: str | None = None
    result: Any = None  # as JSON carries it
    progress: float | None = None
    stage: str | None = None
    #: When its next attempt is due.
    due: float | None = None
    #: The limit that had no room for it, "site|site1", and when.
    limited: str | None = None
    limited_since: float | None = None
    #: The attempts before, oldest first, as far as they are kept.
    attempts: Sequence[Mapping[str, Any]] = ()
    #: When somebody looked whether the broker still has its message.
    looked_for: float | None = None
    #: An earlier run of it may have done a part of it, so that it does not expire any more.
    goes_on: bool = False

    def has_expired(self, now: float) -> bool:
        """Whether it still waits, and is not begun any more."""
        at = self.message.expires_at
        return at is not None and at <= now and self.status == QUEUED and not self.goes_on


def _read_attempts(text: str) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in text.split("\n")]


#: How each field is read; they are texts in Redis.
READERS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("status", "worker", "reason", "error", "traceback", "stage", "limited"), str),
    **dict.fromkeys(("attempt", "died"), int),
    **dict.fromkeys(("started_at", "ended_at", "progress", "due"), float),
    **dict.fromkeys(("looked_for", "limited_since"), float),
    "goes_on": bool,
    "result": json.loads,
    "attempts": _read_attempts,
}


def parse_record(fields: Mapping[str, str]) -> Record | None:
    try:
        message = Message.from_json(fields["envelope"])
    except (KeyError, BadMessage):  # there is none, or another version wrote it
        return None
    read = {name: READERS[name](text) for name, text in fields.items() if name in READERS}
    return Record(message, **read)
