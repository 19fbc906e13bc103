"""What goes on after its form was answered: actions on many jobs, each in a thread.

How far each is stands in Redis, so that every process of the pages can say it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from frappe_jobs.bulk.actions import Outcome, Progress
from frappe_jobs.errors import BrokerError, FrappeJobsError, JobError
from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis

logger = logging.getLogger(__name__)

#: So many at once in a process; seconds for which each is remembered, and between two notes.
MOST, REMEMBERED, PACE = 3, 24 * 3600, 0.25
#: Seconds without a note after which its process seems to have ended.
SILENT = 30.0


@dataclass(frozen=True)
class Lasting:
    """What is to be done, and how its outcome is told."""

    word: str
    total: int
    sites: Sequence[str]
    act: Callable[[Progress], Outcome]
    told: Callable[[Outcome], Iterable[str]]


@dataclass(frozen=True)
class Run:
    """One that was begun: how far it is, and what came of it."""

    total: int
    done: int
    sites: Sequence[str]
    began_at: float
    noted_at: float
    ended_at: float | None = None
    said: Sequence[str] = ()
    error: str = ""

    @property
    def is_silent(self) -> bool:
        return self.ended_at is None and time.time() - self.noted_at > SILENT


class Runs(BenchRedis):
    """Those of a bench."""

    _going = 0
    _lock = threading.Lock()

    @reachable
    def find(self, word: str) -> Run | None:
        found = self.redis.hgetall(self._run_key(word))
        values = {name: json.loads(value) for name, value in found.items()}
        return Run(**values) if "noted_at" in values else None

    def begin(self, lasting: Lasting, end: Callable[[str], None]) -> None:
        """Do it in a thread; ``end`` hears what came of it.

        Raises JobError if it was begun before, or if as many go on as may; BrokerUnavailable.
        """
        with self._lock:
            if self._going >= MOST:
                raise JobError("Others are at work on many jobs. Wait until they have ended.")
            if not self._note_begin(lasting):
                raise JobError("That was begun before. Look at the jobs again.")
            self._going += 1
        target = threading.Thread(target=self._go, args=(lasting, end), daemon=True, name="bulk")
        target.start()

    @reachable
    def _note_begin(self, lasting: Lasting) -> bool:
        key, now = self._run_key(lasting.word), time.time()
        values = {"done": 0, "sites": [*lasting.sites], "began_at": now, "noted_at": now}
        if not self.redis.hsetnx(key, "total", lasting.total):
            return False
        self._note(lasting.word, values)
        return True

    @reachable
    def _note(self, word: str, values: Mapping[str, object]) -> None:
        key = self._run_key(word)
        with self.redis.pipeline() as pipe:
            pipe.hset(key, mapping={name: json.dumps(value) for name, value in values.items()})
            pipe.expire(key, REMEMBERED)
            pipe.execute()

    def _go(self, lasting: Lasting, end: Callable[[str], None]) -> None:
        said, error = list[str](), ""
        try:
            said += lasting.told(lasting.act(self._teller(lasting.word)))
        except FrappeJobsError as raised:
            error = f"It broke off: {raised}"
            if outcome := raised.details.get("outcome"):
                said += lasting.told(outcome)
        except Exception:
            logger.exception("an action on %s jobs broke off", lasting.total)
            error = "It broke off; why stands in the log of the pages."
        with self._lock:
            self._going -= 1
        came_of_it = " ".join(filter(None, (error, *said)))
        try:
            end(came_of_it)
            self._note(lasting.word, {"ended_at": time.time(), "said": said, "error": error})
        except BrokerError as away:
            logger.error("it cannot be noted what came of an action: %s (%s)", came_of_it, away)

    def _teller(self, word: str) -> Progress:
        noted = time.monotonic()

        def tell(done: int, _total: int) -> None:
            nonlocal noted
            if time.monotonic() - noted >= PACE:
                noted = time.monotonic()
                self._note(word, {"done": done, "noted_at": time.time()})

        return tell

    def _run_key(self, word: str) -> str:
        return self._key("web", "run", word)
