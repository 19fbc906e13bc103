"""Messages that are no jobs: kept where people can look at them, counted, and logged."""

from __future__ import annotations

import logging
import reprlib
import time
from collections import deque
from collections.abc import Callable

from frappe_jobs.errors import FrappeJobsError

logger = logging.getLogger(__name__)

#: Characters that are kept of a message's body, of its headers, and of what is wrong with it.
BODY_LIMIT = 10_000
REASON_LIMIT = 1_000

#: This many messages have a line each within that many seconds; one line sums up the others.
LINES, WINDOW = 20, 10.0

#: This many wait in this process while the ledger is out of reach; the ledger keeps as many.
MOST = 1_000
#: Seconds between two attempts to reach it.
PAUSE = 1.0

_short = reprlib.Repr()
_short.maxdict = _short.maxlist = _short.maxtuple = 100
_short.maxstring = _short.maxother = 1_000


def as_text(value: object) -> str:
    """Any value as a text for people, no longer than what is kept."""
    try:
        if isinstance(value, (str, bytes, bytearray, memoryview)):
            part = value[:BODY_LIMIT]
            return repr(part if isinstance(part, str) else bytes(part))[:BODY_LIMIT]
        return _short.repr(value)[:BODY_LIMIT]
    except Exception as error:  # its repr may raise anything
        return f"<{type(value).__name__}: {type(error).__name__}>"


class KeptAside:
    """A worker's messages that are no jobs; only the worker's own loop calls this.

    A message is acknowledged once it is kept.  While the ledger is out of reach it stays with the
    broker; what the broker has already let go of waits here.
    """

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write  # the ledger's keep_aside
        self._waiting: deque[tuple[dict[str, str], Callable[[], object] | None]] = deque(
            maxlen=MOST
        )
        self._try_again_at = 0.0  # while the ledger is out of reach
        self._since, self._said, self._unsaid, self._last = 0.0, 0, 0, ""

    def keep(
        self,
        queue: object,
        reason: str,
        *,
        header: object = None,
        body: object = None,
        acknowledge: Callable[[], object] | None = None,
    ) -> None:
        """Keep it, say so, then acknowledge it."""
        reason = reason[:REASON_LIMIT]
        entry = {
            "error": f"The message {reason}.", "queue": as_text(queue).strip("'"),
            "header": as_text(header), "body": as_text(body),
        }  # fmt: skip
        self._say(entry["queue"], reason)
        self._waiting.append((entry, acknowledge))
        if time.monotonic() >= self._try_again_at:
            self.write()

    def look(self) -> None:
        """Write what could not be written, sum up what was not logged."""
        if self._waiting:
            self.write()
        if self._unsaid and time.monotonic() - self._since > WINDOW:
            self.sum_up()

    def write(self) -> None:
        """Write what waits, and acknowledge it; a lost broker still has its messages."""
        entries = [*self._waiting]
        try:
            self._write(*(entry for entry, _ in entries))
        except FrappeJobsError as error:
            if not self._try_again_at:
                logger.error("messages that are no jobs cannot be kept aside yet: %s", error)
            self._try_again_at = time.monotonic() + PAUSE
            return
        self._try_again_at = 0.0
        self._waiting.clear()
        for _, acknowledge in entries:
            if acknowledge:
                acknowledge()

    def forget_unacknowledged(self) -> None:
        """The connection is lost: the broker delivers these again."""
        mine = [message for message in self._waiting if message[1] is None]
        self._waiting.clear()
        self._waiting.extend(mine)

    def _say(self, queue: str, reason: str) -> None:
        now = time.monotonic()
        if now - self._since > WINDOW:
            self.sum_up()
            self._since, self._said = now, 0
        if self._said < LINES:
            self._said += 1
            logger.error(
                "a message in %s %s; it is kept aside", queue, reason,
                extra={"action": "message_kept_aside"},
            )  # fmt: skip
        else:
            self._unsaid, self._last = self._unsaid + 1, f"a message in {queue} {reason}"

    def sum_up(self) -> None:
        """Log in a single line how many more there were."""
        if self._unsaid:
            logger.error(
                "%s more messages are kept aside; the last: %s", self._unsaid, self._last,
                extra={"action": "messages_kept_aside", "count": self._unsaid},
            )  # fmt: skip
        self._unsaid = 0
