"""What is no job: kept where people can look at it, counted, and summed up in the log."""

from __future__ import annotations

import logging
import reprlib
import time
from collections import deque
from collections.abc import Callable

from frappe_jobs.errors import FrappeJobsError

logger = logging.getLogger(__name__)

#: Of a message's body, of its headers and of what is wrong with it, so many characters are kept.
BODY_LIMIT = 10_000
REASON_LIMIT = 1_000

#: So many messages have a line each within so many seconds; the others are summed up in one.
LINES, WINDOW = 20, 10.0

#: So many wait in this process while the ledger is out of reach; as many are kept there.
MOST = 1_000
#: Seconds between two attempts to reach it.
PAUSE = 1.0

_short = reprlib.Repr()
_short.maxdict = _short.maxlist = _short.maxtuple = 100
_short.maxstring = _short.maxother = 1_000


def as_text(value: object) -> str:
    """For people; not longer than is kept, whatever it is."""
    try:
        if isinstance(value, (str, bytes, bytearray, memoryview)):
            part = value[:BODY_LIMIT]
            return repr(part if isinstance(part, str) else bytes(part))[:BODY_LIMIT]
        return _short.repr(value)[:BODY_LIMIT]
    except Exception as error:  # whatever it does when it is looked at
        return f"<{type(value).__name__}: {type(error).__name__}>"


class KeptAside:
    """Those of one worker; only its own loop calls this.

    A message is acknowledged once it is kept.  While the ledger is out of reach it stays the
    broker's, and what the broker has let go of waits here.
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
        """Write what could not be written, sum up what was not said."""
        if self._waiting:
            self.write()
        if self._unsaid and time.monotonic() - self._since > WINDOW:
            self.sum_up()

    def write(self) -> None:
        """Write what waits, and acknowledge it; a broker that is lost has it still."""
        entries = [*self._waiting]
        try:
            self._write(*(entry for entry, _ in entries))
        except FrappeJobsError as error:
            if not self._try_again_at:
                logger.error("what is no job cannot be kept aside yet: %s", error)
            self._try_again_at = time.monotonic() + PAUSE
            return
        self._try_again_at = 0.0
        self._waiting.clear()
        for _, acknowledge in entries:
            if acknowledge:
                acknowledge()

    def forget_unacknowledged(self) -> None:
        """The connection is lost: its broker hands these out again."""
        mine = [one for one in self._waiting if one[1] is None]
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
        """Say in one line how many more there were."""
        if self._unsaid:
            logger.error(
                "%s more messages are kept aside; the last one: %s", self._unsaid, self._last,
                extra={"action": "messages_kept_aside", "count": self._unsaid},
            )  # fmt: skip
        self._unsaid = 0
