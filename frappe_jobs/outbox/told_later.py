"""What Redis is told beside the transactions: a note for many of them, and what is settled."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from threading import Event, Thread, local
from typing import Any

from frappe_jobs.errors import BrokerError
from frappe_jobs.outbox.notes import LIMIT, Note, Notes

logger = logging.getLogger(__name__)

#: Seconds until it is told at the latest, by a thread, unless the next transaction does so.
PACE = 1.0
#: Seconds in which the transactions of a thread share a note: each round trip would cost.
SHARED = 0.5


@dataclass(eq=False)
class OpenNote:
    """A note, and how many of its thread's transactions are not settled."""

    note: Note
    pid: int
    transactions: int = 0
    #: Whether no transaction joins any more; without a lock: who joins counts first, then looks.
    is_closed: bool = False
    #: By the monotonic clock.
    made_at: float = field(default_factory=time.monotonic)

    def is_young(self) -> bool:
        """Whether transactions may join still."""
        return time.monotonic() - self.made_at < SHARED


class ToldLater:
    """Tells it as soon as Redis can be reached, while this process lives.

    Of what dies with the process whoever looks at the site finds the records.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        # Without a lock, which a fork might find taken.
        self._left: deque[Note] = deque(maxlen=LIMIT)
        self._settled: deque[Note] = deque(maxlen=LIMIT)
        self._open: deque[OpenNote] = deque()
        self._of_thread = local()
        self._wake = Event()
        self._pid = 0

    def join(self, site: str, queues: Collection[str]) -> OpenNote:
        """The note for a transaction that is about to commit; left now if that can be done."""
        open_notes = self._of_thread.__dict__
        found: OpenNote | None = open_notes.get(site)
        if found and found.pid == os.getpid() and found.is_young():
            if {*queues} <= {*found.note.queues}:
                found.transactions += 1
                if not found.is_closed:
                    return found
                self.settle(found)
            queues = dict.fromkeys((*found.note.queues, *queues))
        made = OpenNote(Note(site, tuple(queues), time.time()), os.getpid(), 1)
        open_notes[site] = made
        self._leave(made.note)
        self._open.append(made)
        return made

    def _leave(self, note: Note) -> None:
        if self._left:  # each commit would wait for a Redis that does not answer
            self._left.append(note)
            return
        try:
            self._notes.leave([note])
        except BrokerError as error:  # no reason to keep anybody from his work
            logger.debug("a note of %s is left later: %s", note.site, error)
            self._left.append(note)
            self._see_to_it()

    def settle(self, shared: OpenNote) -> None:
        """Nothing of one of its transactions is left to be sent."""
        shared.transactions -= 1
        if shared.is_closed and not shared.transactions:
            self._settled.append(shared.note)
        self._see_to_it()

    def tell_now(self) -> None:
        """Tell it before this process ends."""
        self._close(young=True)
        if self._left or self._settled:
            self._tell()

    def _close(self, *, young: bool = False) -> None:
        """Let no more transactions join, and settle the notes whose are all settled."""
        for shared in _all(self._open):
            if shared.pid != os.getpid():  # whoever forked this process settles it
                continue
            if shared.is_young() and not young:
                self._open.append(shared)
                continue
            shared.is_closed = True
            if not shared.transactions:
                self._settled.append(shared.note)

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
                atexit.register(self.tell_now)
            self._pid, self._wake = os.getpid(), Event()
            Thread(target=self._go_on, args=(self._wake,), daemon=True, name="outbox").start()
        self._wake.set()

    def _go_on(self, wake: Event) -> None:
        pause = Event()
        while wake.wait():
            wake.clear()
            pause.wait(PACE)
            self._close()
            if not self._tell():
                wake.set()


def _all(notes: deque[Any]) -> list[Any]:
    """Take all of them out, while others may add to them."""
    found = []
    while notes:
        try:
            found.append(notes.popleft())
        except IndexError:
            break
    return found
