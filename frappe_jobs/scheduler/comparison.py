"""Compare a site's entries with their records, which are the truth: what is to be written.

All times are in seconds since 1970, and ``now`` is by Redis's clock, by which jobs are due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from frappe_jobs.cron import UTC
from frappe_jobs.host.schedule_records import JobType
from frappe_jobs.scheduler.entry import Entry, Put, Stored

#: Seconds until a paused site, or a job whose queue is full, is looked at again.
PAUSED = 30.0

#: Seconds by which the clocks of machines may differ; only a wrong clock writes a later time.
TOLERANCE = 60.0


#: What is to be scheduled on a site, by the names of the types.
Wanted = Mapping[str, tuple[Entry, JobType]]


@dataclass(frozen=True)
class Differences:
    """Where a site's entries are not what its records say, by the names of the types."""

    missing: Sequence[str]
    changed: Sequence[str]
    left_over: Sequence[str]
    #: When each present entry is due, in seconds since 1970.
    due: Mapping[str, float]
    #: Why an entry cannot be read.
    unreadable: Mapping[str, str] = field(default_factory=dict)
    #: A clock that was ahead wrote their due time.
    ahead: Sequence[str] = ()
    #: A clock that was ahead wrote the last execution into their record.
    ran_ahead: Sequence[str] = ()
    #: The last execution in their record has changed, and so has their due time.
    moved: Sequence[str] = ()


def compare(
    wanted: Wanted, present: Mapping[str, Stored], now: float
) -> tuple[Differences, list[Put]]:
    """Where a site's entries are not as their records say, and what is to be written."""
    puts: list[Put] = []
    missing: list[str] = []
    changed: list[str] = []
    ahead: list[str] = []
    moved: list[str] = []
    for name, (entry, record) in wanted.items():
        stored = present.get(name)
        if stored is None or stored.entry != entry or stored.due is None:
            puts.append(put_for(entry, record, stored, now))
            if stored is None:
                missing.append(name)
            elif not stored.why:
                changed.append(name)
        elif put := mended(entry, record, stored, now):
            puts.append(put)
            if put.due != stored.due:
                (ahead if stored.due > _next(entry, now) else moved).append(name)
    found = Differences(
        missing=missing, changed=changed, ahead=ahead, moved=moved,
        ran_ahead=[name for name, (_, job) in wanted.items() if is_ahead(job.last_execution, now)],
        left_over=[name for name in present if name not in wanted],
        due={name: stored.due for name, stored in present.items() if stored.due is not None},
        unreadable={name: stored.why for name, stored in present.items() if stored.why},
    )  # fmt: skip
    return found, puts


def is_ahead(at: datetime | None, now: float) -> bool:
    """Whether only a wrong clock can have written that time."""
    return at is not None and at.timestamp() > now + TOLERANCE


def due_time(entry: Entry, record: JobType, now: float) -> float:
    """When it is due by its record alone; a last execution in the future counts as now."""
    since = record.last_execution or record.creation
    return _next(entry, max(0.0, min(since.timestamp(), now)) if since else now)


def put_for(entry: Entry, record: JobType, stored: Stored | None, now: float) -> Put:
    """What is to be written for an entry that is missing or has changed."""
    known = stored or Stored(None)
    last = _last(record)
    return Put(entry, due_time(entry, record, now), None, known.queued, last, known.epoch)


def mended(entry: Entry, record: JobType, stored: Stored, now: float) -> Put | None:
    """What is to be written for an entry that is as its record says, but may have wrong times.

    None: nothing.  A due time that has been queued never comes again.
    """
    was, last = stored.due or 0.0, _last(record)

    def put(due: float, queued: float | None) -> Put:
        return Put(entry, due, was, queued, last, stored.epoch)

    if was > _next(entry, now):  # its next time cannot be later than that
        return _set_back(entry, stored, now, last)
    if _was_set_back(stored.last, last):
        due = due_time(entry, record, now)
        if due < was and due != stored.queued:
            return put(due, None)
    elif last is not None and was <= last <= now:  # it has run since, but not by the scheduler
        return put(_next(entry, last), max(was, stored.queued or 0.0))
    if not _is_looked_at(stored, now) or stored.last != last:
        return put(was, stored.queued)
    return None


def _set_back(entry: Entry, stored: Stored, now: float, last: float | None) -> Put:
    """What is to be written when the clock was ahead and was set back, so that times come again.

    As in the nights when clocks change: if every hour counts, such a time is due twice, else once.
    """
    known = [at for at in (last, stored.queued) if at is not None and at <= now]
    due = _next(entry, max(known, default=now))
    if entry.schedule.comes_again:
        return Put(entry, due, stored.due, None, last, stored.epoch + 1)
    return Put(entry, due, stored.due, stored.queued, last, stored.epoch)


def _was_set_back(before: float | None, last: float | None) -> bool:
    """Whether something else than a run may have changed the record's last execution."""
    if before is None or last is None:
        return before is not last
    return last < before - 1.0


def _is_looked_at(stored: Stored, now: float) -> bool:
    """Whether the scheduler will look at it when it is due, or as soon as it may go on."""
    due, score = stored.due or 0.0, stored.score
    return score is not None and due <= score <= max(due, now + PAUSED + TOLERANCE)


def _last(record: JobType) -> float | None:
    return record.last_execution.timestamp() if record.last_execution else None


def _next(entry: Entry, after: float) -> float:
    return entry.next_run(datetime.fromtimestamp(after, UTC)).timestamp()
