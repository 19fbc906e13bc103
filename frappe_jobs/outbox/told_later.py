"""Redis is told little of transactions: one note for many, and later that they are settled."""

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

#: Seconds after which a thread tells it at the latest.
PACE = 1.0
#: Seconds in which a thread's transactions share a note, as each costs a round trip.
SHARED = 0.5


@dataclass(eq=False)
class OpenNote:
    """A note, and how many of its thread's transactions are not settled."""

    note: Note
    pid: int
    transactions: int = 0
    #: Whether no transaction joins any more; without a lock: joining counts first, then looks.
    is_closed: bool = False
    #: By the monotonic clock.
    made_at: float = field(default_factory=time.monotonic)

    def is_young(self) -> bool:
        """Whether transactions may still join."""
        return time.monotonic() - self.made_at < SHARED


class ToldLater:
    """Tells Redis as soon as it can be reached, while this process lives.

    What is not told before the process dies, a worker finds out when it looks at the site.
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
        """The note for a transaction that is about to commit; left in Redis now if possible."""
        open_notes = self._of_thread.__dict__
        shared: OpenNote | None = open_notes.get(site)
        if shared and shared.pid == os.getpid() and shared.is_young():
            if {*queues} <= {*shared.note.queues}:
                shared.transactions += 1
                if not shared.is_closed:
                    return shared
                self.settle(shared)
            queues = dict.fromkeys((*shared.note.queues, *queues))
        shared = OpenNote(Note(site, tuple(queues), time.time()), os.getpid(), 1)
        open_notes[site] = shared
        self._leave(shared.note)
        self._open.append(shared)
        return shared

    def _leave(self, note: Note) -> None:
        if self._left:  # each commit would wait for a Redis that does not answer
            self._left.append(note)
            return
        try:
            self._notes.leave([note])
        except BrokerError as error:  # no reason to stop the transaction
            logger.debug("a note of %s is left later: %s", note.site, error)
            self._left.append(note)
            self._see_to_it()

    def settle(self, shared: OpenNote) -> None:
        """Note that all jobs of one of its transactions are sent."""
        shared.transactions -= 1
        if shared.is_closed and not shared.transactions:
            self._settled.append(shared.note)
        self._see_to_it()

    def tell_now(self) -> None:
        """Tell it now, before this process ends."""
        self._close(young=True)
        if self._left or self._settled:
            self._tell()

    def _close(self, *, young: bool = False) -> None:
        """Let no more transactions join, and settle the notes whose transactions are settled."""
        for shared in _all(self._open):
            if shared.pid != os.getpid():  # the process that forked this one settles it
                continue
            if shared.is_young() and not young:
                self._open.append(shared)
                continue
            shared.is_closed = True
            if not shared.transactions:
                self._settled.append(shared.note)

    def _tell(self) -> bool:
        # The notes stay in self._left until they are told, so that no transaction tries meanwhile.
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
    taken = []
    while notes:
        try:
            taken.append(notes.popleft())
        except IndexError:
            break
    return taken
