"""What was found, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.contenders import OURS, Contender
from benchmarks.rooms.memory import FLAT, Held, Memory
from benchmarks.rounds import Claim, Rates

WIDTH = 96


@dataclass(frozen=True)
class Results:
    """A whole run."""

    facts: Mapping[str, str]
    rates: Sequence[Rates]
    memory: Memory | None
    contenders: Sequence[Contender]


def text(results: Results) -> str:
    parts = [
        _pairs(results.facts),
        *(_rates(one) for one in results.rates),
        *([_memory(results.memory)] if results.memory else []),
        _claims([one.claim for one in results.rates], results.memory),
        _pairs({one.name: one.remark for one in results.contenders}),
    ]
    return "\n".join("\n".join(part) + "\n" for part in parts)


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


def _claims(claims: Sequence[Claim], memory: Memory | None) -> Iterator[str]:
    yield "figures (frappe_jobs to Celery with an equal message; the median of the rounds' ratios)"
    yield f"  {'':<28}{'wanted':>10}{'found':>9}{'spread':>9}"
    for claim in claims:
        found = claim.found
        yield (
            f"  {claim.what:<28}{claim.wanted:>10.2f}{found.median:>9.2f}{found.spread:>9.0%}"
            f"   {claim.verdict}"
        )
    if memory:
        grown = f"{memory.growth(OURS.name):+.1%}"
        yield f"  {'memory':<28}{f'+{FLAT:.0%}':>10}{grown:>9}{'':>9}   {memory.verdict}"
