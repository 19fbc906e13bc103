"""What is done beside a process's own work, in a process of its own: its memory goes with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from billiard.context import ForkProcess

from frappe_jobs.celery.child import follow

#: What asks a process to stop.
STOPPING = (signal.SIGTERM, signal.SIGINT)


class Apart(ForkProcess):  # type: ignore[misc]
    """Runs that beside the process that starts it, and ends with it at the latest.

    billiard's, as Celery and kombu know its processes and leave it no connection of their parent's.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work, self._parent = work, os.getpid()

    def start(self) -> None:
        """One that is asked to stop meanwhile stops afterwards: Python forgets it in a fork."""
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
