"""What is compared is measured in turn, round by round, and nothing is claimed that swings."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

#: No claim from fewer rounds, nor where the middle half of them spreads over more than this.
ROUNDS, SPREAD = 5, 0.15


@dataclass(frozen=True)
class Series:
    """One value of each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """How far apart the quartiles are, as a part of the median."""
        if len(self.values) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.values, method="inclusive")
        return (high - low) / self.median

    def over(self, base: Series) -> Series:
        """The ratio in each round: what slowed both of them down is not in it."""
        pairs = zip(self.values, base.values, strict=True)
        return Series(tuple(value / other for value, other in pairs))


@dataclass(frozen=True)
class Claim:
    """A ratio that is promised, and what was found of it."""

    what: str
    wanted: float
    found: Series
    #: Whether it must not be over that, rather than not under it.
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if len(self.found.values) < ROUNDS:
            return f"no claim: {ROUNDS} rounds are the least"
        if self.found.spread > SPREAD:
            return f"no claim: the rounds differ too much (over {SPREAD:.0%})"
        over = self.found.median - self.wanted
        return "reached" if (over <= 0 if self.at_most else over >= 0) else "MISSED"


@dataclass(frozen=True)
class Rates:
    """What a room has found: how often a second each contender does the same."""

    title: str
    remark: str
    series: Mapping[str, Series]
    #: The name in ``series`` that the others are compared with.
    base: str
    claim: Claim

    def ratio(self, name: str) -> float:
        return self.series[name].over(self.series[self.base]).median


def interleave(
    title: str, measures: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, Series]:
    """Call each in turn, A B C A B C …; a first round warms them up and is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for number in announced(title, rounds + 1):
        for name, measure in measures.items():
            value = measure()
            if number:
                taken[name].append(value)
    return {name: Series(tuple(values)) for name, values in taken.items()}


def announced(title: str, rounds: int) -> Iterator[int]:
    """The numbers of the rounds; says on standard error which one it is."""
    for number in range(rounds):
        what = f"round {number} of {rounds - 1}" if number else "warm-up"
        print(f"{title}: {what}", file=sys.stderr, flush=True)
        yield number
