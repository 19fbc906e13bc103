"""Where the history lies in Redis, and how long."""

from __future__ import annotations

from typing import NamedTuple

from frappe_jobs.ledger.counting import FIELDS

KINDS = tuple(FIELDS)
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600

#: The minutes that nobody has folded yet, those of hours that are not put together yet, and what
#: was ever counted by queue.
UNFOLDED, APART, TOTALS = "history:unfolded", "history:apart", "history:totals"


class Resolution(NamedTuple):
    """How fine, for how long, and what lies in one chunk; all in seconds."""

    name: str
    step: int
    chunk: int
    kept: int

    @property
    def slots(self) -> int:
        return self.chunk // self.step

    def place(self, at: float) -> tuple[int, int]:
        """The number of the chunk, and of the slot in it."""
        number, rest = divmod(int(at), self.chunk)
        return number, rest // self.step


MINUTES = Resolution("minutes", MINUTE, HOUR, DAY)
HOURS = Resolution("hours", HOUR, DAY, 30 * DAY)
RESOLUTIONS = (MINUTES, HOURS)
#: A minute by itself, until its hour is over.
ONE_MINUTE = Resolution("apart", MINUTE, MINUTE, DAY)
