"""What goes on after its form was answered: actions on many jobs, each in a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from frappe_jobs.bulk.actions import Outcome, Progress
from frappe_jobs.errors import BrokerError, FrappeJobsError, JobError

logger = logging.getLogger(__name__)

#: So many at once, and so many are remembered.
MOST, REMEMBERED = 3, 50


@dataclass
class Run:
    """One of them, how far it is, and what came of it."""

    word: str
    total: int
    sites: Sequence[str]
    began_at: float = field(default_factory=time.time)
    done: int = 0
    ended_at: float | None = None
    said: Sequence[str] = ()
    error: str = ""

    def tell(self, done: int, _total: int) -> None:
        self.done = done


@dataclass(frozen=True)
class Lasting:
    """What is to be done, and how its outcome is told."""

    word: str
    total: int
    sites: Sequence[str]
    act: Callable[[Progress], Outcome]
    told: Callable[[Outcome], Iterable[str]]


class Runs:
    """Those of this process."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def find(self, word: str) -> Run | None:
        return self._runs.get(word)

    def check(self, word: str) -> None:
        """Raises JobError if it was begun before, or if as many go on as may."""
        if word in self._runs:
            raise JobError("That was begun before. Look at the jobs again.")
        if sum(run.ended_at is None for run in self._runs.values()) >= MOST:
            raise JobError("Others are at work on many jobs. Wait until they have ended.")

    def begin(self, lasting: Lasting, end: Callable[[str], None]) -> None:
        """Do it in a thread; ``end`` hears what came of it.  Raises JobError as ``check`` does."""
        with self._lock:
            self.check(lasting.word)
            ended = [word for word, run in self._runs.items() if run.ended_at is not None]
            for word in ended[: max(0, len(self._runs) - REMEMBERED)]:
                del self._runs[word]
            run = Run(lasting.word, lasting.total, lasting.sites)
            self._runs[lasting.word] = run
        threading.Thread(target=_go, args=(run, lasting, end), daemon=True, name="bulk").start()


def _go(run: Run, lasting: Lasting, end: Callable[[str], None]) -> None:
    try:
        run.said = [*lasting.told(lasting.act(run.tell))]
    except FrappeJobsError as error:
        run.error = f"It broke off: {error}"
        if outcome := error.details.get("outcome"):
            run.said = [*lasting.told(outcome)]
    except Exception:
        logger.exception("an action on %s jobs broke off", run.total)
        run.error = "It broke off; why stands in the log of the pages."
    run.ended_at = time.time()
    try:
        end(" ".join(filter(None, (run.error, *run.said))))
    except BrokerError as error:
        logger.error("what came of an action on %s jobs is not in the audit: %s", run.total, error)
