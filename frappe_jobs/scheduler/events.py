"""The ``scheduler_events`` of the apps' hooks as scheduled jobs, and what is wrong with them.

Nothing is imported here: the caller checks whether a method exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from frappe_jobs.cron import check
from frappe_jobs.errors import BadCron, UnknownFrequency, shortened
from frappe_jobs.host.schedule_records import ScheduledJob
from frappe_jobs.scheduler.frequency import FREQUENCIES, frequency_named
from frappe_jobs.texts.finding import Finding

CRON = FREQUENCIES["cron"].name


def scheduled_jobs(hooks: Mapping[str, Any]) -> tuple[list[ScheduledJob], list[Finding]]:
    """The jobs that the apps' ``scheduler_events`` name, in order, and what is wrong there.

    An app's value is a dict, or a list of dicts if its hooks were merged.  Wrong entries are left
    out, and the rest stays.  A job that two apps name is given once.
    """
    jobs: dict[ScheduledJob, None] = {}
    findings = []
    for app, value in hooks.items():
        for found in _of_app(app, value):
            if isinstance(found, Finding):
                findings.append(found)
            else:
                jobs.setdefault(found)
    return list(jobs), findings


def _of_app(app: str, value: object) -> Iterator[ScheduledJob | Finding]:
    place = f"App {app!r}: scheduler_events"
    for events in _listed(value):
        if not isinstance(events, Mapping):
            yield _finding(place, events, f"Give it a dict with: {', '.join(FREQUENCIES)}.")
            continue
        for event, entries in events.items():
            yield from _of_event(app, f"{place}[{shortened(event)}]", event, entries)


def _of_event(app: str, place: str, event: str, value: object) -> Iterator[ScheduledJob | Finding]:
    try:
        frequency = frequency_named(event)
    except UnknownFrequency as error:
        yield Finding("error", f"{place}: its jobs are left out.", str(error))
        return
    if frequency.name != CRON:
        yield from _of_methods(app, place, frequency.name, "", value)
        return
    for expressions in _listed(value):
        if isinstance(expressions, Mapping):
            for expression, methods in expressions.items():
                at = f"{place}[{shortened(expression)}]"
                yield from _of_expression(app, at, expression, methods)
        else:
            cure = "Give it a dict: {'0 9 * * 1': ['shop.tasks.report']}."
            yield _finding(place, expressions, cure)


def _of_expression(
    app: str, place: str, expression: str, methods: object
) -> Iterator[ScheduledJob | Finding]:
    """A frequency's name instead of an expression means that frequency."""
    if expression in FREQUENCIES and FREQUENCIES[expression].name != CRON:
        yield from _of_methods(app, place, FREQUENCIES[expression].name, "", methods)
        return
    try:
        check(expression)
    except BadCron as error:
        yield Finding("error", f"{place}: its jobs are left out.", str(error))
        return
    yield from _of_methods(app, place, CRON, expression, methods)


def _of_methods(
    app: str, place: str, frequency: str, cron_format: str, value: object
) -> Iterator[ScheduledJob | Finding]:
    for method in _listed(value):
        if isinstance(method, str) and method.strip():
            yield ScheduledJob(method, frequency, cron_format, app)
        else:
            yield _finding(place, method, "Give it a list of dotted paths: ['shop.tasks.report'].")


def _listed(value: object) -> Sequence[object]:
    """The value as a list: in Frappe's hooks a single value may stand for a list of it."""
    return value if isinstance(value, (list, tuple)) else [value]


def _finding(place: str, value: object, cure: str) -> Finding:
    return Finding("error", f"{place} holds {shortened(value)}, which is left out.", cure)
