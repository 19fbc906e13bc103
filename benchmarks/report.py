"""What was found, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.contenders import OURS, Contender
from benchmarks.rooms import life, start
from benchmarks.rooms.memory import FLAT, Held, Memory
from benchmarks.rooms.schedule import FRAPPE_ORIGIN, FRAPPE_TICK
from benchmarks.rooms.schedule import TITLE as SCHEDULE
from benchmarks.rooms.schedule import Schedule
from benchmarks.rounds import Rates
from benchmarks.scheduled import JOBS

WIDTH = 96


@dataclass(frozen=True)
class Results:
    """A whole run."""

    facts: Mapping[str, str]
    rates: Sequence[Rates]
    starts: start.Starts
    lives: life.Lives
    memory: Memory | None
    schedule: Schedule
    contenders: Sequence[Contender]


def text(results: Results) -> str:
    parts: list[Iterable[str]] = [
        _pairs(results.facts),
        *(_rates(one) for one in results.rates),
        _starts(results.starts),
        _lives(results.lives),
        *([_memory(results.memory)] if results.memory else []),
        _claims(results),
        _pairs({one.name: one.remark for one in results.contenders}),
        _schedule(results.schedule),
    ]
    return "\n".join(map(_part, parts))


def schedule_text(schedule: Schedule) -> str:
    return _part(_schedule(schedule))


def with_schedule(text: str, schedule: Schedule) -> str:
    """The text of an earlier run, with this one's schedule in the place of its own."""
    parts = [part.rstrip() + "\n" for part in text.split("\n\n") if part.strip()]
    rest = [part for part in parts if not part.startswith(f"{SCHEDULE}, ")]
    return "\n".join([*rest, schedule_text(schedule)])


def _part(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _pairs(pairs: Mapping[str, str]) -> Iterator[str]:
    wide = max(map(len, pairs)) + 2
    for name, value in pairs.items():
        first, *more = textwrap.wrap(value, WIDTH - wide)
        yield f"{name:<{wide}}{first}"
        yield from (" " * wide + line for line in more)


def _rates(rates: Rates) -> Iterator[str]:
    rounds = len(rates.series[rates.base].values)
    yield f"{rates.title} ({rates.remark}; {rounds} rounds)"
    yield f"  {'':<28}{'median':>10}{'spread':>9}   of {rates.base}"
    for name, series in rates.series.items():
        ratio = rates.ratio(name)
        yield f"  {name:<28}{series.median:>10,.0f}{series.spread:>9.0%}{ratio:>8.2f}"


def _starts(starts: start.Starts) -> Iterator[str]:
    jobs = len(starts.found[OURS.name])
    yield f"{start.TITLE} (milliseconds; {jobs} jobs, one after another)"
    yield f"  {'':<28}{'median':>10}{'99 of 100':>12}"
    for name in starts.found:
        yield f"  {name:<28}{starts.median(name):>10.2f}{starts.late(name):>12.2f}"


def _lives(lives: life.Lives) -> Iterator[str]:
    yield f"{life.TITLE} (of its processor; {lives.jobs:,} jobs, sent one by one)"
    yield f"  {'':<28}{'milliseconds':>14}{'commands':>10}{'bytes kept':>12}"
    for name, cost in lives.found.items():
        yield f"  {name:<28}{cost.milliseconds:>14.2f}{cost.commands:>10.1f}{cost.kept:>12,.0f}"


def _memory(memory: Memory) -> Iterator[str]:
    yield f"{memory.title} (MB: PSS/RSS of its parent, of its child)"
    yield f"  {'':<28}" + "".join(f"{name:>26}" for name in memory.found)
    for jobs in next(iter(memory.found.values())):
        cells = []
        for stages in memory.found.values():
            parent, child = stages[jobs]
            cells.append(
                "  ".join(f"{h.pss / 1024:.1f}/{h.rss / 1024:.1f}" for h in (parent, child))
            )
        stage = f"after {jobs:,} jobs" if jobs else "idle"
        yield f"  {stage:<28}" + "".join(f"{cell:>26}" for cell in cells)
    growth = [f"{memory.growth(name):+.1%}" for name in memory.found]
    yield f"  {'from the first tenth on':<28}" + "".join(f"{one:>26}" for one in growth)


def _megabytes(held: Held) -> str:
    return f"{held.pss / 1024:.1f}/{held.rss / 1024:.1f}"


def _schedule(schedule: Schedule) -> Iterator[str]:
    """Says by itself what it was measured on: it may be of another run than the rest."""
    yield (f"{SCHEDULE}, {schedule.sites:,} sites with {JOBS} jobs each ({schedule.rounds} rounds)")
    yield from (f"  {line}" for line in _pairs(schedule.facts))
    yield f"  {'':<42}{'median':>10}{'spread':>9}{'wanted':>10}"
    for one in schedule.figures:
        series, decimals = one.series, 2 if one.series.median < 100 else 0
        line = f"  {one.what:<42}{series.median:>10,.{decimals}f}{series.spread:>9.0%}"
        if claim := one.claim:
            bound = f"{'<=' if claim.at_most else '>='} {claim.wanted:,g}"
            line += f"{bound:>10}   {claim.verdict}"
        yield line
    tick = FRAPPE_TICK * schedule.sites
    yield f"  {'Frappe 15, tick with nothing due, ms':<42}{tick:>10,}   {FRAPPE_TICK} ms a site *"
    yield from (f"  {line}" for line in textwrap.wrap(f"* {FRAPPE_ORIGIN}", WIDTH - 2))


def _claims(results: Results) -> Iterator[str]:
    starts, cost = results.starts, results.lives.found[OURS.name]
    yield "figures (frappe_jobs to Celery with an equal message; the median of the rounds' ratios)"
    yield f"  {'':<28}{'wanted':>10}{'found':>9}{'spread':>9}"
    for claim in (one.claim for one in results.rates):
        found, wanted = claim.found, f"{claim.wanted:.2f}"
        yield _figure(
            claim.what, wanted, f"{found.median:.2f}", claim.verdict, f"{found.spread:.0%}"
        )
    yield _figure(
        "start, ms behind Celery", f"{start.BEHIND:.2f}", f"{starts.behind:.2f}", starts.verdict
    )
    yield _figure(
        "Redis, ms for a job", f"{life.WANTED:.2f}", f"{cost.milliseconds:.2f}",
        results.lives.verdict,
    )  # fmt: skip
    if memory := results.memory:
        grown = f"{memory.growth(OURS.name):+.1%}"
        yield _figure("memory", f"+{FLAT:.0%}", grown, memory.verdict)


def _figure(what: str, wanted: str, found: str, verdict: str, spread: str = "") -> str:
    return f"  {what:<28}{wanted:>10}{found:>9}{spread:>9}   {verdict}"
