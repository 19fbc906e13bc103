"""Clocks compared over a round trip."""

from __future__ import annotations


def ahead(told: float, *, asked: float, answered: float) -> float:
    """Seconds by which the clock that told this time is ahead of ours; negative: behind.

    It was read at some moment between our asking and its answer, so whatever lies in between is 0.
    """
    return max(0.0, told - answered) + min(0.0, told - asked)
