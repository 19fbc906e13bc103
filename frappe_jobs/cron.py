"""When a cron expression is due next.

croniter says what an expression means, but only for naive wall-clock times: for aware times its
versions differ.  We handle time zones and the nights when clocks change.
"""

from __future__ import annotations

import re
from copy import copy
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from croniter import croniter

from frappe_jobs.errors import BadCron, shortened

UTC = timezone.utc
SECOND = timedelta(seconds=1)
#: Frappe's frequencies that mean an expression; its documentation uses the names as expressions.
NAMED = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 0",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
    "annual": "0 0 1 1 *",
}
#: Longer than any expression without repetitions; limits the time that a bad expression takes.
LONGEST = 1000
LEGAL = (
    "Legal are five fields: minute 0-59, hour 0-23, day of month 1-31 or L, month 1-12 or jan-dec, "
    "day of week 0-7 or sun-sat or 5#2 (the second Friday), and perhaps a sixth, second 0-59; "
    "each '*', a value, a range '2-5', a list '2,5' or a step '*/5'; or @hourly, @daily, @weekly, "
    "@monthly, @yearly."
)


def next_run(expression: str, after: datetime, zone: ZoneInfo) -> datetime:
    """The first time strictly after ``after`` at which the expression is due, in that zone.

    The expression names wall-clock times, as croniter understands it; the zone says when clocks
    show them.  In the nights when clocks change:

    - If the hour field is ``*`` or ``*/n``, it is due whenever clocks show one of its times: twice
      at a time that comes twice, never at a time that does not exist.
    - Otherwise it is due once at each of its times: at the first coming of a time that comes twice,
      and at the end of the gap for a time that does not exist.  Several times in a gap, and a time
      at its very end, are due once together.

    A naive ``after`` is a wall-clock time of the zone.  A frequency's name (``annual``) may stand
    for its expression.  Raises BadCron, also for an expression such as ``0 0 31 2 *``.  Compare
    times in UTC: in Python a time that comes twice equals no time of another zone.
    """
    return _next_run(_wall_times(expression), instant(after, zone), zone)


# Many jobs share an expression, and the scheduler and migrate ask for all of them at about the same
# time: each is computed once.  In UTC, different times that the zone shows alike stay different.
@lru_cache(maxsize=1_000)
def _next_run(times: _WallTimes, start: datetime, zone: ZoneInfo) -> datetime:
    due = _at_every_coming if times.every_hour else _at_first_coming
    return due(times, start, zone).astimezone(zone)


def check(expression: str) -> None:
    """Raise BadCron, with the text and what is legal, if it is no expression or never due."""
    _wall_times(expression).check()


def comes_every_hour(expression: str) -> bool:
    """Whether its hour field is ``*`` or ``*/n``: every real hour counts.  Raises BadCron."""
    return _wall_times(expression).every_hour


class _WallTimes:
    """The wall-clock times that an expression names; safe in threads."""

    def __init__(self, expression: str, times: croniter) -> None:
        self.expression = expression
        self.every_hour = re.fullmatch(r"\*(/\d+)?", times.expressions[1]) is not None
        self._times = times
        self._last = datetime.min, datetime.min  # one value, for threads
        self._is_checked = False

    def check(self) -> None:
        """Raise BadCron if none of them ever comes."""
        if not self._is_checked:
            self._after(datetime(2000, 1, 1))
            self._is_checked = True

    def after(self, wall: datetime) -> datetime:
        """The first of them strictly after ``wall``; raises BadCron if there is none.

        Many jobs share an expression and are asked about at about the same time: the last answer
        holds for all times in between.
        """
        asked, answered = self._last
        if not asked <= wall < answered:
            answered = self._after(wall)
            self._last = wall, answered
        return answered

    def _after(self, wall: datetime) -> datetime:
        try:
            # A copy: a croniter remembers its place.
            due: datetime = copy(self._times).get_next(datetime, start_time=wall)
        except ValueError:  # croniter's, or the end of the calendar
            raise BadCron(
                f"The cron expression {self.expression!r} names no date that comes within "
                "50 years. Give it a day that its months have."
            ).about(expression=self.expression) from None
        return due

    def since(self, wall: datetime) -> datetime:
        """The first of them at or after ``wall``."""
        return self.after(wall - SECOND)


def _wall_times(expression: str) -> _WallTimes:
    found = _parsed(expression) if isinstance(expression, str) else None
    if not found:
        raise BadCron(f"{shortened(expression)} is no cron expression. {LEGAL}").about(
            expression=expression
        )
    return found


@lru_cache(maxsize=10_000)
def _parsed(expression: str) -> _WallTimes | None:
    if not expression.isascii() or len(expression) > LONGEST:
        return None
    try:
        times = croniter(NAMED.get(expression.lower(), expression), 0.0)
    except (ValueError, TypeError):  # not all are croniter's own
        return None
    fields = times.expressions
    # Newer versions know a seventh field, the year; R means a new random time at each reading.
    is_fixed = len(fields) <= 6 and not any(field.startswith("r") for field in fields)
    return _WallTimes(expression, times) if is_fixed else None


# --- wall clocks and real time


class _Change(NamedTuple):
    """A change of the clock: its instant, what clocks show until then, and from then on."""

    at: datetime
    until: datetime
    since: datetime


def instant(after: datetime, zone: tzinfo) -> datetime:
    """That time in UTC; a naive time is a wall-clock time of the zone."""
    return (after if after.tzinfo else after.replace(tzinfo=zone)).astimezone(UTC)


def _offsets(wall: datetime, zone: tzinfo) -> tuple[timedelta, timedelta]:
    """The offsets from UTC before and after the change that the time lies in.

    They are the same if it lies in none.
    """
    first, second = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first or timedelta(), second or timedelta()


def _comings(wall: datetime, zone: tzinfo) -> list[datetime]:
    """The instants at which clocks show that time: one, or two, or none in a gap."""
    before, after = _offsets(wall, zone)
    if before < after:
        return []
    return [(wall - offset).replace(tzinfo=UTC) for offset in sorted({before, after})[::-1]]


def _change(wall: datetime, zone: tzinfo) -> _Change:
    """The change that makes that time come twice, or not at all."""
    before, after = _offsets(wall, zone)
    wall = wall.replace(microsecond=0, tzinfo=UTC)
    early, late = wall - max(before, after), wall - min(before, after)
    while late - early > SECOND:
        middle = early + (late - early) // (2 * SECOND) * SECOND
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    naive = late.replace(tzinfo=None)
    return _Change(late, until=naive + before, since=naive + after)


def _at_first_coming(times: _WallTimes, start: datetime, zone: tzinfo) -> datetime:
    local = start.astimezone(zone)
    wall = local.replace(tzinfo=None)
    # In the second coming of an hour all of its times have already been due.
    due = times.since(_change(wall, zone).until) if local.fold else times.after(wall)
    return first_coming(due, zone)


def first_coming(wall: datetime, zone: tzinfo) -> datetime:
    """The first coming of a wall-clock time; the end of the gap if the time does not exist."""
    comings = _comings(wall, zone)
    return comings[0] if comings else _change(wall, zone).at


def _at_every_coming(times: _WallTimes, start: datetime, zone: tzinfo) -> datetime:
    local = start.astimezone(zone)
    wall = local.replace(tzinfo=None)
    due = times.after(wall)
    if not local.fold and len(_comings(wall, zone)) == 2:
        change = _change(wall, zone)
        if due >= change.until:  # clocks go back before that time
            due = times.since(change.since)
    while not (comings := _comings(due, zone)):
        due = times.since(_change(due, zone).since)
    return next(coming for coming in comings if coming > start)
