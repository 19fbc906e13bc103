"""Clocks compared over a round trip, and a clock that others set."""

from __future__ import annotations

#: Seconds by which clocks may differ, or step, without a word.
BOUND = 60.0

#: Seconds after which a jump is believed that this machine's own clock has made as well: a
#: thousandth of it, and no more than that.
LONGEST_DOUBT = 15.0

#: The same of one that it has not made: then the other clock is likely to be wrong.
LONGEST_LONE_DOUBT = 300.0


def ahead(told: float, *, asked: float, answered: float) -> float:
    """Seconds by which the clock that told this time is ahead of ours; negative: behind.

    It was read at some moment between our asking and its answer, so whatever lies in between is 0.
    """
    return max(0.0, told - answered) + min(0.0, told - asked)


class Watch:
    """Watches a clock for jumps: what it says is not believed before it has said so for a while.

    A clock that is wrong for seconds does no harm then.
    """

    def __init__(self) -> None:
        #: What it told when it was believed, with the time by a clock that nobody sets.
        self._believed: tuple[float, float] | None = None
        #: Since when it has been in doubt, by the same, and by how many seconds it jumped.
        self._doubt: tuple[float, float] | None = None

    @property
    def jump(self) -> float:
        """By how many seconds it has jumped, while that is not believed; else 0."""
        return self._doubt[1] if self._doubt else 0.0

    def believes(self, told: float, *, wall: float, steady: float) -> bool:
        """Whether that is the time; ``wall`` and ``steady`` are this machine's two clocks."""
        jump = told - (self._believed[0] + steady - self._believed[1]) if self._believed else 0.0
        if abs(jump) > BOUND:
            if not self._doubt or abs(jump - self._doubt[1]) > BOUND:
                self._doubt = steady, jump
            longest = LONGEST_DOUBT if abs(told - wall) <= BOUND else LONGEST_LONE_DOUBT
            doubt = min(abs(jump) / 1000, longest) if longest == LONGEST_DOUBT else longest
            if steady - self._doubt[0] < doubt:
                return False
        self._believed, self._doubt = (told, steady), None
        return True
