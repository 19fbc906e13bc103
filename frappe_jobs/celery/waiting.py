"""A worker whose broker is away, or refuses, says so once, waits, and comes back."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state

from frappe_jobs.celery.stopping import stopping
from frappe_jobs.servers.refusals import answer_of

logger = logging.getLogger(__name__)

#: Seconds by which each pause between two attempts grows, and the longest pause.
STEP, LONGEST = 0.5, 2.0

#: Seconds for which the broker must work before the same error is logged again.
STABLE = 10.0


class Waiting(logging.Filter):
    """How long a worker has been kept from working, and what was logged about it.

    As the filter of a logger it logs that logger's records of the broker's errors its own way.
    """

    def __init__(self, broker: str, errors: tuple[type[BaseException], ...]) -> None:
        super().__init__()
        self._broker, self._errors = broker, errors
        self._is_ready = False
        self._pause = 0.0
        #: What was logged since it last worked: each kind once, whatever command met it.
        self._said: set[tuple[type[BaseException], str]] = set()
        self._failed_at = time.monotonic()

    def ready(self) -> None:
        """Note that it works, as far as is known."""
        self._is_ready = True

    def lost(self, error: BaseException) -> None:
        """Note that it does not work, and log why."""
        self.say(error)
        self._is_ready = False

    def say(self, error: BaseException) -> None:
        """Log what keeps it from working, unless that was already logged."""
        self.note_return()
        self._failed_at = time.monotonic()
        answer = answer_of(error)
        kind = type(error), answer.partition(" ")[0]  # an answer of Redis begins with its code
        if kind not in self._said:
            self._said.add(kind)
            logger.error(
                "the broker %s is away or refuses: %s: %s; this worker waits, and tries again",
                self._broker, type(error).__name__, answer, extra={"action": "broker_refuses"},
            )  # fmt: skip

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not isinstance(error, self._errors):
            return True
        self.say(error)
        return False

    def wait(self) -> None:
        """Wait for the next attempt, longer each time, or until the worker is told to stop."""
        until = time.monotonic() + self._pause
        self._pause = min(self._pause + STEP, LONGEST)
        pause = threading.Event()
        while (left := until - time.monotonic()) > 0:
            leave_if_told()
            pause.wait(min(left, 0.2))
        leave_if_told()

    def note_return(self) -> None:
        """Log that it works again, once it has worked for a while."""
        if not self._is_ready or time.monotonic() - self._failed_at < STABLE:
            return
        if self._said:
            logger.warning(
                "the broker %s is back", self._broker, extra={"action": "broker_is_back"}
            )
        self._pause = 0.0
        self._said.clear()


def leave_if_told() -> None:
    """Begin the worker's end if it was told to stop: its loop, which would, does not run now."""
    if stopping.told:
        state.should_stop = 0
    state.maybe_shutdown()


@contextmanager
def in_silence(name: str) -> Iterator[None]:
    """Silence that logger, which would log each attempt with a traceback and advice."""
    theirs = logging.getLogger(name)
    before, theirs.disabled = theirs.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            yield
    finally:
        theirs.disabled = before
