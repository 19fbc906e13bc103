"""A clock that tests move: what is due by it is run, and nobody waits."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from frappe_jobs.cron import UTC
from frappe_jobs.errors import ArgumentError


class Clock:
    """The time by which ``run_jobs`` and ``run_due`` decide what is due; the jobs see the real one.

    It is the real time until it is moved, and goes on from there.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """In seconds since 1970."""
        return time.time() + self.ahead

    def move(self, by: timedelta | None = None, **units: float) -> None:
        """Move it on: ``move(minutes=5)``, with the keywords of a ``timedelta``.

        Raises ArgumentError for a move backwards.
        """
        seconds = ((by or timedelta()) + timedelta(**units)).total_seconds()
        if seconds < 0:
            raise ArgumentError(f"A clock is moved on, not back by {-seconds:g} s; reset() it.")
        self.ahead += seconds

    def move_to(self, moment: datetime) -> None:
        """Move it on to that moment; one without a zone is in UTC."""
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        self.move(seconds=moment.timestamp() - self.now())

    def reset(self) -> None:
        """Show the real time again."""
        self.ahead = 0.0


#: The one that is used unless another is given.
clock = Clock()
