"""Compare clocks over a round trip, and watch a clock for jumps."""

from __future__ import annotations

#: Seconds by which clocks may differ, or jump, without a warning.
BOUND = 60.0

#: The longest doubt in seconds, a thousandth of the jump, if this machine's own clock made the
#: same jump.
LONGEST_DOUBT = 15.0

#: The doubt if it did not: then the other clock is probably wrong.
LONGEST_LONE_DOUBT = 300.0


def ahead(told: float, *, asked: float, answered: float) -> float:
    """Seconds by which the clock that told this time is ahead of ours; negative: behind.

    It was read at some point between our question and its answer; any time in between gives 0.
    """
    return max(0.0, told - answered) + min(0.0, told - asked)


class Watch:
    """Watches a clock for jumps: after a jump it is believed only when that has lasted a while.

    So a clock that is wrong for some seconds does no harm.
    """

    def __init__(self) -> None:
        #: The time that was last believed, and then by the monotonic clock.
        self._believed: tuple[float, float] | None = None
        #: Since when it is in doubt, by the monotonic clock, and the seconds of its jump.
        self._doubt: tuple[float, float] | None = None

    @property
    def jump(self) -> float:
        """The seconds of its jump while that is not believed; else 0."""
        return self._doubt[1] if self._doubt else 0.0

    def believes(self, told: float, *, wall: float, steady: float) -> bool:
        """Whether to believe that time; ``wall`` and ``steady`` are this machine's two clocks."""
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
