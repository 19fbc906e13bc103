"""A scheduled job as RedBeat's entry: how it is written and read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from frappe_jobs.cron import check
from frappe_jobs.errors import BadEntry, FrappeJobsError, shortened
from frappe_jobs.message import TASK, to_json
from frappe_jobs.scheduler.frequency import Schedule

#: The version of what is written.  Entries of another version are made anew, never guessed at.
VERSION = 1

#: The most characters of a definition, and of each text in it; real ones are far shorter.
LONGEST = 20_000
LONGEST_TEXT = 2_000

#: Seconds; more than any sensible offset.
LONGEST_OFFSET = 10**7

#: The errors that may be raised by reading a text that is not ours.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError)


@dataclass(frozen=True)
class Entry:
    """A scheduled job of a site, as the scheduler knows it."""

    site: str
    #: The name of its Scheduled Job Type.
    name: str
    method: str
    queue: str
    schedule: Schedule
    zone: str

    @property
    def id(self) -> str:
        """Its name in RedBeat."""
        return f"{self.site}:{self.name}"

    def next_run(self, after: datetime) -> datetime:
        """The first time strictly after ``after`` at which it is due, in its zone."""
        return self.schedule.next_run(after, ZoneInfo(self.zone))

    def to_json(self) -> str:
        """RedBeat's definition."""
        kwargs = {"site": self.site, "name": self.name, "method": self.method, "queue": self.queue}
        schedule = {"__type__": "frappe_jobs", "version": VERSION, "zone": self.zone}
        return to_json(
            {
                "name": self.id, "task": TASK, "args": [], "kwargs": kwargs, "options": {},
                "schedule": schedule | asdict(self.schedule), "enabled": True,
            }
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """Read what ``to_json`` wrote; raises BadEntry, which says why, for anything else."""
        if len(text) > LONGEST:
            raise BadEntry(f"it is {len(text):,} characters long")
        try:
            definition = json.loads(text)
            parts = dict(definition["schedule"])
            kind, version = parts.pop("__type__"), parts.pop("version", VERSION)
            if kind != "frappe_jobs":
                raise BadEntry(f"its schedule is {shortened(kind)}, as RedBeat's own entries have")
            if version != VERSION:
                raise BadEntry(f"its version is {shortened(version)}; we read only {VERSION}")
            zone = parts.pop("zone")
            entry = cls(**definition["kwargs"], schedule=Schedule(**parts), zone=zone)
            entry.check()
        except BadEntry:
            raise
        except FrappeJobsError as error:
            raise BadEntry(str(error)) from None
        except UNREADABLE as error:
            raise BadEntry(f"{type(error).__name__}: {shortened(str(error))}") from None
        return entry

    def check(self) -> None:
        """Raise BadEntry or BadCron if no scheduler could use it."""
        for text in (self.site, self.name, self.method, self.queue, self.zone):
            if not isinstance(text, str) or not text or len(text) > LONGEST_TEXT:
                raise BadEntry(f"{shortened(text)} is no text, or is too long")
        for number in (self.schedule.offset, self.schedule.every):
            if type(number) is not int or number < 0 or self.schedule.offset > LONGEST_OFFSET:
                raise BadEntry(f"{shortened(number)} is no number of seconds")
        try:
            ZoneInfo(self.zone)
        except UNREADABLE:
            raise BadEntry(f"{shortened(self.zone)} is no time zone") from None
        if not self.schedule.every:
            check(self.schedule.expression)


@dataclass(frozen=True)
class Due:
    """An entry whose time has come, and its due time, in seconds since 1970."""

    entry: Entry
    at: float
    #: When it is next due, after the look.
    next_at: float = field(default=0.0, compare=False)
    #: The due time that was queued last.
    queued: float | None = field(default=None, compare=False)
    #: How often the clock was set back, so that its due times come again.
    epoch: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Stored:
    """What Redis has for a scheduled job, as far as it can be read."""

    entry: Entry | None
    #: Why its entry cannot be read.
    why: str = ""
    due: float | None = None
    #: When the scheduler looks at it.
    score: float | None = None
    #: The due time that was queued last.
    queued: float | None = None
    #: The last execution in its record at the last comparison.
    last: float | None = None
    epoch: int = 0


@dataclass(frozen=True)
class Put:
    """What is to be written for an entry."""

    entry: Entry
    due: float
    #: Its times are written only if this is still its due time; None: in any case.
    was: float | None = None
    queued: float | None = None
    last: float | None = None
    epoch: int = 0
