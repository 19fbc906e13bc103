"""What Redis is told beside a transaction: what is settled, and what it was away for."""

from __future__ import annotations

import atexit
import logging
import os
from collections import deque
from threading import Event, Thread

from frappe_jobs.errors import BrokerError
from frappe_jobs.outbox.notes import LIMIT, Note, Notes

logger = logging.getLogger(__name__)

#: Seconds until it is told at the latest, by a thread, unless the next transaction does so.
PACE = 1.0


class ToldLater:
    """Tells it as soon as Redis can be reached, while this process lives.

    Of what dies with the process whoever looks at the site finds the records.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        # Without a lock, which a fork might find taken.
        self._left: deque[Note] = deque(maxlen=LIMIT)
        self._settled: deque[Note] = deque(maxlen=LIMIT)
        self._wake = Event()
        self._pid = 0

    def leave(self, note: Note) -> None:
        """Leave it now if that can be done, else later."""
        if self._left:  # each commit would wait for a Redis that does not answer
            self._left.append(note)
            return
        try:
            self._notes.leave([note])
        except BrokerError as error:  # no reason to keep anybody from his work
            logger.debug("a note of %s is left later: %s", note.site, error)
            self._left.append(note)
            self._see_to_it()

    def settle(self, notes: list[Note]) -> None:
        """Nothing is left to be sent of them; it is told for many at once."""
        self._settled.extend(notes)
        self._see_to_it()

    def tell_now(self) -> None:
        """Tell it before this process ends."""
        if self._left or self._settled:
            self._tell()

    def _tell(self) -> bool:
        # What is left stays there until it was told, so that nobody else tries meanwhile.
        left, settled = [*self._left], _all(self._settled)
        try:
            if left:
                self._notes.leave(left)
            self._notes.settle(settled)
        except BrokerError as error:
            logger.debug("notes are left and settled later: %s", error)
            self._settled.extendleft(reversed(settled))
            return False
        for _ in left:
            self._left.popleft()
        return True

    def _see_to_it(self) -> None:
        if self._pid != os.getpid():  # a fork has no threads
            if not self._pid:
                atexit.register(self._tell)
            self._pid, self._wake = os.getpid(), Event()
            Thread(target=self._go_on, args=(self._wake,), daemon=True, name="outbox").start()
        self._wake.set()

    def _go_on(self, wake: Event) -> None:
        pause = Event()
        while wake.wait():
            wake.clear()
            pause.wait(PACE)
            if not self._tell():
                wake.set()


def _all(notes: deque[Note]) -> list[Note]:
    """Take all of them out, while others may add to them."""
    found: list[Note] = []
    while notes:
        try:
            found.append(notes.popleft())
        except IndexError:
            break
    return found
