"""What happened to jobs in a span of time: numbers, and how long they waited and ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from frappe_jobs.ledger.counting import (
    CANCELLED,
    CLASSES_TO_DOUBLE,
    DELIVERED_AGAIN,
    ENQUEUED,
    FAILED,
    FINISHED,
    LAST_CLASS,
    LEASE_LOST,
    RETRIED,
    SHORTEST,
    STARTED,
    WAITED,
)

#: No quantile is further than this part of it from the true one, between 1 ms and 12 days.
RELATIVE_ERROR = 2 ** (1 / (2 * CLASSES_TO_DOUBLE)) - 1

#: The letter of the runs that ended a job, by the class of their time.
RAN = "t"
#: So often each code was counted: ``e``, ``w12``.
Codes = Mapping[str, int]


@dataclass(frozen=True)
class Times:
    """How long something took, by classes: how many of each."""

    classes: Mapping[int, int]

    @property
    def count(self) -> int:
        return sum(self.classes.values())

    def quantile(self, part: float) -> float | None:
        """The seconds that this part of them (0.95) stayed under, within RELATIVE_ERROR.

        None where there are none.  What took less than a millisecond counts as one, and what took
        longer than 12 days as so many.
        """
        if not (count := self.count):
            return None
        seen = 0
        for number in sorted(self.classes):
            seen += self.classes[number]
            if seen >= part * count:
                return middle(number)
        return middle(LAST_CLASS)

    @property
    def seconds(self) -> float:
        """All of them together, within RELATIVE_ERROR."""
        return sum(middle(number) * many for number, many in self.classes.items())

    def under(self, number: int) -> int:
        """How many took no longer than that class's upper bound."""
        return sum(many for one, many in self.classes.items() if one <= number)


def bound(number: int) -> float:
    """The longest time of that class, in seconds."""
    return float(SHORTEST * 2 ** (number / CLASSES_TO_DOUBLE))


def middle(number: int) -> float:
    """A time that none of its class is further from than RELATIVE_ERROR."""
    return bound(number) / (1 + RELATIVE_ERROR) if number else SHORTEST


@dataclass(frozen=True)
class Counts:
    """What was counted; zeros mean that nothing happened, and was looked at."""

    codes: Codes

    @classmethod
    def sum(cls, many: Iterable[Counts]) -> Counts:
        total: Counter[str] = Counter()
        for one in many:
            total.update(one.codes)
        return cls(total)

    def _all(self, letters: str) -> int:
        return sum(many for code, many in self.codes.items() if code[0] in letters)

    def _times(self, letter: str) -> Times:
        timed = {code[1:]: many for code, many in self.codes.items() if code[0] == letter}
        return Times({int(number): many for number, many in timed.items() if number})

    @cached_property
    def enqueued(self) -> int:
        return self._all(ENQUEUED)

    @cached_property
    def started(self) -> int:
        """Each start of an attempt."""
        return self._all(STARTED + WAITED)

    @cached_property
    def finished(self) -> int:
        return self._all(FINISHED)

    @cached_property
    def failed(self) -> int:
        return self._all(FAILED)

    @cached_property
    def cancelled(self) -> int:
        return self._all(CANCELLED)

    @cached_property
    def retried(self) -> int:
        return self._all(RETRIED)

    @cached_property
    def leases_lost(self) -> int:
        """Runs that left no end: their process died, or gave no sign of life."""
        return self._all(LEASE_LOST)

    @cached_property
    def redelivered(self) -> int:
        """Messages that came to a worker though their job had been begun, or had ended."""
        return self._all(LEASE_LOST + DELIVERED_AGAIN)

    @cached_property
    def waited(self) -> Times:
        """From when a job was enqueued to its first start."""
        return self._times(WAITED)

    @cached_property
    def run(self) -> Times:
        """The runs that ended a job, finished or failed."""
        return self._times(RAN)

    @cached_property
    def activity(self) -> int:
        """By which the busiest are known."""
        return self._all(ENQUEUED + STARTED + WAITED + FINISHED + FAILED + CANCELLED)
