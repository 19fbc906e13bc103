"""What is looked for among the jobs: the filters of a search, checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

from frappe_jobs.errors import ArgumentError, shortened
from frappe_jobs.ledger.record import ENDED, FAILED, OPEN, Record
from frappe_jobs.message import to_json
from frappe_jobs.texts.error_text import safe

STATUSES = (*OPEN, *ENDED)
#: Characters of a filter's text: no job has longer values that people look for.
LONGEST_TEXT = 1_000
#: Of the error of a failed job so many different words are known, of so many characters each.
WORDS, LONGEST_WORD = 24, 32
#: They are looked for in the first so many characters of it.
LONGEST_ERROR = 500
#: How many words can be looked for at once.
WORDS_ASKED = 8


@dataclass(frozen=True)
class Wanted:
    """The filters: a job is wanted if all of them fit; those that are not given fit every job.

    Raises ArgumentError for one that can fit no job.
    """

    sites: Sequence[str]
    statuses: Collection[str] = ()
    queues: Collection[str] = ()
    method: str | None = None
    user: str | None = None
    #: The caller's id of the job, or that of one of its messages.
    job: str | None = None
    #: Seconds since 1970: when it ended, or while it has not when it was enqueued; both included.
    since: float | None = None
    until: float | None = None
    #: Words, in any order, of the error of a failed job.
    error: str | None = None

    def __post_init__(self) -> None:
        for status in self.statuses:
            if status not in STATUSES:
                raise ArgumentError(
                    f"There is no status {shortened(status)}; legal: {', '.join(STATUSES)}."
                )
        for name in ("method", "user", "job", "error"):
            _check_text(name, text := getattr(self, name))
            object.__setattr__(self, name, text and safe(text))
        object.__setattr__(self, "queues", [safe(queue) for queue in self.queues])
        for name in ("since", "until"):
            _check_time(name, getattr(self, name))
        if self.error is not None and not 0 < len(self.words) <= WORDS_ASKED:
            raise ArgumentError(
                f"'error' must have 1 to {WORDS_ASKED} words; not {shortened(self.error)}."
            )

    @cached_property
    def _of_sites(self) -> frozenset[str]:
        return frozenset(self.sites)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of ``error``."""
        return words_of(self.error or "")

    @cached_property
    def of_statuses(self) -> frozenset[str]:
        """The statuses that a wanted job can have; none if the filters contradict each other."""
        statuses = frozenset(self.statuses or STATUSES)
        return statuses & {FAILED} if self.words else statuses

    @cached_property
    def marks(self) -> dict[str, list[str]]:
        """By each filter the parts of which one is in the envelope of each wanted job."""
        marks = {"queues": [mark("queue", queue) for queue in self.queues]}
        for name in ("method", "user"):
            if (value := getattr(self, name)) is not None:
                marks[name] = [mark(name, value)]
        return {name: parts for name, parts in marks.items() if parts}

    @property
    def is_narrow(self) -> bool:
        """Whether a look at all jobs of a site would find some that are not wanted."""
        ends = self.of_statuses & {*ENDED}
        return bool(self.marks or self.words) or 0 < len(ends) < len(ENDED)

    def fits(self, record: Record) -> bool:
        """Whether the job is wanted, its time and its id aside."""
        message = record.message
        return (
            message.site in self._of_sites
            and record.status in self.of_statuses
            and (not self.queues or message.queue in self.queues)
            and self.method in (None, message.method)
            and self.user in (None, message.user)
            and (not self.words or {*self.words} <= {*error_words(record.reason, record.error)})
        )


def mark(name: str, value: str) -> str:
    """The part of an envelope by which its field is known."""
    return to_json({name: value})[1:-1]


def error_words(reason: str | None, error: str | None) -> tuple[str, ...]:
    """The words by which a failed job is found."""
    kind = (error or "").rpartition(".")[2][:LONGEST_WORD]
    return words_of(f"{kind} {(reason or '')[:LONGEST_ERROR]}")[:WORDS]


def words_of(text: str) -> tuple[str, ...]:
    """The different words of the text, in its order, without regard to capitals."""
    found = re.findall(r"\w+", text.casefold())
    return tuple(dict.fromkeys(word[:LONGEST_WORD] for word in found))


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        raise ArgumentError(
            f"{name!r} must be a text of 1 to {LONGEST_TEXT:,} characters; not {shortened(value)}."
        )


def _check_time(name: str, value: object) -> None:
    if value is None:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and isfinite(value)):  # type: ignore[arg-type]
        raise ArgumentError(f"{name!r} must be seconds since 1970; not {shortened(value)}.")
