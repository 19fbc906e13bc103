"""One run of a job in its site; here is what it raises where the job has no end yet, or no run."""

from __future__ import annotations

#: Why a job was cancelled that had not begun in time.
EXPIRED = "expired"


class RunAgain(Exception):
    """The job was rolled back and waits for its next attempt, ``delay`` seconds from now."""

    def __init__(self, delay: int) -> None:
        super().__init__(delay)
        self.delay = delay


class Expired(Exception):
    """The job had not begun in time, and has been cancelled."""


class GivenBack(Exception):
    """The worker holds the message no longer: it waits for any worker again, or is with another."""


class OthersGoFirst(Exception):
    """The message was taken ahead, and by now another job is to go first, or it is paused."""
