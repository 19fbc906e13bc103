"""Work done beside a process in a process of its own, whose end gives its memory back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from billiard.context import ForkProcess

from frappe_jobs.celery.child import follow

#: What asks a process to stop.
STOPPING = (signal.SIGTERM, signal.SIGINT)


class Apart(ForkProcess):  # type: ignore[misc]
    """Does some work beside the process that starts it, and ends no later than that process.

    A process of billiard's: Celery and kombu close their parent's connections in those.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work, self._parent = work, os.getpid()

    def start(self) -> None:
        """A signal that comes during the fork is handled after it: Python would forget it."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def run(self) -> None:
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        follow(self._parent, signal.SIGTERM)
        self._work()
