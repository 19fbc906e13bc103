"""Redis: when a worker with one process takes its next job while the present one runs.

Only while its jobs are short: taking, reading and handing over a message takes as long as such a
job.  ``celery/ahead.py`` says what becomes of a job that was taken ahead and has to wait.
"""

from __future__ import annotations

import time

#: Seconds that a job may take to be short.
SHORT = 0.02


class Ahead:
    """Whether to take ahead, from how long the last job took."""

    def __init__(self, *, is_wanted: bool) -> None:
        self._is_wanted, self._is_short, self._since = is_wanted, False, 0.0

    def began(self) -> None:
        """Note that a message was taken while there was no other one."""
        self._since = time.monotonic()

    def ended(self) -> None:
        """Note that a message is done; the next one begins now, if there is any."""
        now = time.monotonic()
        self._is_short, self._since = now - self._since < SHORT, now

    def waits(self) -> None:
        """Note that a message that was taken ahead has to wait: no other one until a job ends."""
        self._is_short = False

    def may_take(self) -> bool:
        return self._is_wanted and self._is_short and time.monotonic() - self._since < SHORT
