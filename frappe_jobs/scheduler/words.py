"""A schedule in words, for people who do not read cron.

The values are croniter's own reading of the expression, so the words say what will happen.
"""

from __future__ import annotations

from calendar import day_name, month_name
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from croniter import croniter

from frappe_jobs.cron import NAMED
from frappe_jobs.scheduler.frequency import Schedule

#: More times of day than this are not listed.
MOST_TIMES = 6
NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", "l": "last"}

#: The values of a field; only "*" for any.
Values = Sequence[Any]


def in_words(schedule: Schedule) -> str:
    """Such as ``at 09:00 on Monday to Friday``; the schedule's expression must be valid."""
    if schedule.every:
        return f"every {schedule.every} seconds, counted from midnight"
    text = expression_in_words(schedule.expression)
    minutes, seconds = divmod(schedule.offset, 60)
    later = [f"{minutes} min"] * bool(minutes) + [f"{seconds} s"] * bool(seconds)
    return f"{text}, and {' '.join(later)} later" if later else text


def expression_in_words(expression: str) -> str:
    """As ``in_words``, for a cron expression or a frequency's name."""
    read = croniter(NAMED.get(expression.lower(), expression), 0.0)
    minutes, hours, days, months, weekdays, *rest = read.expanded
    time = _time(rest[0] if rest else [0], minutes, hours)
    day = _day(days, weekdays, read.nth_weekday_of_month)
    if not day and time.startswith("at ") and "every" not in time:
        day = "every day"
    month = "" if _any(months) else f"in {_listed(months, lambda number: month_name[number])}"
    return " ".join(filter(None, (time, day, month)))


def _time(seconds: Values, minutes: Values, hours: Values) -> str:
    times = list(product(hours, minutes, seconds))
    if len(times) <= MOST_TIMES and "*" not in (*hours, *minutes, *seconds):
        clocks = (f"{h:02}:{m:02}" + (f":{s:02}" if s else "") for h, m, s in times)
        return f"at {_joined([*clocks])}"
    parts = [_every("hour", hours, 24), _every("minute", minutes, 60)]
    if list(seconds) != [0]:
        parts.append(_every("second", seconds, 60))
    # The finest unit first; "every" of a coarser unit need not be said.
    said = [part for n, part in enumerate(parts[::-1]) if n == 0 or not part.startswith("every ")]
    if _any(hours) and not said[-1].startswith("every "):
        said.append("every hour")
    return " of ".join(part.removeprefix("at ") if n else part for n, part in enumerate(said))


def _every(unit: str, values: Values, size: int) -> str:
    """``every 5 minutes``, ``at the minutes 1 and 2``, ``at minute 7``."""
    if _any(values):
        return f"every {unit}"
    if step := _step(values, size):
        return f"every {step} {unit}s"
    if len(values) == 1:
        return f"at {unit} {values[0]}"
    return f"at the {unit}s {_listed(values, str)}"


def _step(values: Values, size: int) -> int | None:
    """Their distance, if they divide the unit evenly from 0 on."""
    if len(values) < 2 or values[0] != 0:
        return None
    steps = {after - before for before, after in pairwise([*values, size])}
    return steps.pop() if len(steps) == 1 else None


def _day(days: Values, weekdays: Values, nth: Mapping[int, Any]) -> str:
    """Of days and weekdays either is enough; but with ``5#2`` croniter ignores all others."""
    found = []
    if nth:
        days, weekdays = ["*"], sorted(nth)
    if not _any(days):
        numbers = [day for day in days if day != "l"]
        named = [f"day{'s' * (len(numbers) > 1)} {_listed(numbers, str)}"] if numbers else []
        named += ["the last day"] if "l" in days else []
        found.append(f"on {' and '.join(named)} of the month")
    if not _any(weekdays):
        named = [
            f"the {NTH[week]} {_weekday(day)} of the month"
            for day in weekdays
            for week in sorted(nth.get(day, ()), key=str)
        ]
        found.append(f"on {_joined(named or [_listed(weekdays, _weekday)])}")
    return " or ".join(found)


def _any(values: Values) -> bool:
    return "*" in values  # also with others, as in "*,5"


def _weekday(number: int) -> str:
    return day_name[(number - 1) % 7]  # cron's week begins on Sunday


def _listed(values: Values, name: Callable[[int], str]) -> str:
    """``1, 2 and 9 to 12``: three or more in a row are a range."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts: list[str] = []
    for run in runs:
        parts += [f"{name(run[0])} to {name(run[-1])}"] if len(run) > 2 else map(name, run)
    return _joined(parts)


def _joined(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
