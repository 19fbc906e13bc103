"""Notes that Redis did not take: it was away when their transaction committed."""

from __future__ import annotations

import logging
import os
import threading

from frappe_jobs.errors import BrokerError
from frappe_jobs.outbox.notes import LIMIT, Note, Notes

logger = logging.getLogger(__name__)

#: Seconds between two tries.
PACE = 1.0


class LateNotes:
    """Leaves them as soon as Redis is back, as long as this process lives.

    Of what dies with it, or is one too many, the scheduler finds the rows.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._waiting: dict[Note, None] = {}
        self._lock = threading.Lock()
        self._thread: tuple[int, threading.Thread] | None = None  # and of which process

    @property
    def is_trying(self) -> bool:
        """Whether Redis has not taken one yet."""
        return bool(self._waiting) and self._thread is not None and self._thread[0] == os.getpid()

    def add(self, note: Note) -> None:
        """Leave it later."""
        with self._lock:
            if len(self._waiting) < LIMIT:
                self._waiting[note] = None
            if self._thread is None or self._thread[0] != os.getpid():
                thread = threading.Thread(target=self._try, daemon=True, name="late-notes")
                self._thread = os.getpid(), thread
                thread.start()

    def discard(self, notes: list[Note]) -> None:
        """Their jobs are sent."""
        if self._waiting:
            with self._lock:
                for note in notes:
                    self._waiting.pop(note, None)

    def _try(self) -> None:
        pause = threading.Event()
        while not pause.wait(PACE):
            with self._lock:
                todo = [*self._waiting]
                if not todo:
                    self._thread = None
                    return
            try:
                self._notes.leave(todo)
            except BrokerError as error:
                logger.debug("%s notes are left later: %s", len(todo), error)
            else:
                self.discard(todo)
