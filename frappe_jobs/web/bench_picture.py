"""What takes a second to ask, kept for all who look: one question at a time, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from frappe_jobs.alive.code import Code, on_disk
from frappe_jobs.brokers.base import OnlineWorker
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.rows import queues
from frappe_jobs.runtime import Runtime
from frappe_jobs.texts.finding import Finding
from frappe_jobs.web import examination
from frappe_jobs.web.plots import Past, past_of

Value = TypeVar("Value")

#: What costs much is not asked all the time: it rests for so many times the processor's time.
REST = 9
#: Seconds after which it is asked again, if anybody looks.
WORKERS_PACE, DOCTOR_PACE, PAST_PACE, CODE_PACE = 4.0, 30.0, 20.0, 30.0
#: Seconds for which the names of the sites are kept: to look for a thousand takes milliseconds.
SITES_KEPT = 2.0
#: Seconds after which an answer says its age.
OLD = 60.0
#: Seconds that a page waits at most for an answer where it has none, or an old one.
PATIENCE = 0.05
#: Answers that are kept for those who see only some sites, who may be many.
MOST_ANSWERS = 100


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What was answered last, when; and why the newest question got no answer, if so."""

    value: Value | None = None
    at: float | None = None
    error: str = ""
    #: Whether something was done since it was asked.
    is_outdated: bool = False

    @property
    def is_old(self) -> bool:
        """Whether nobody has looked for a while."""
        return self.at is not None and time.time() - self.at > OLD


class Asked(Generic[Value]):
    """The last answer to a question; it is asked anew while people look."""

    def __init__(
        self, ask: Callable[[], Value], pace: float, spent: Callable[[], float] = time.thread_time
    ) -> None:
        """``spent`` gives the processor's time that questions have taken."""
        self._ask, self._pace, self._spent = ask, pace, spent
        self._answer: Answer[Value] = Answer()
        self._asked = 0.0  # by the monotonic clock
        self._asking: threading.Thread | None = None
        self._is_forgotten = False
        self._lock = threading.Lock()

    def latest(self, patience: float = 0.0) -> Answer[Value]:
        """Waits for nothing: until the first answer has come its value is None.

        Or so long at most, where there is none or an old one.
        """
        with self._lock:
            if time.monotonic() - self._asked >= self._pace or not self._asked:
                self._asked = float("inf")
                self._asking = threading.Thread(target=self._renew, daemon=True, name="asked")
                self._asking.start()
            asking = self._asking
        if patience and asking and (self._answer.at is None or self._answer.is_old):
            asking.join(patience)
        return self._answer

    def forget(self) -> None:
        """Ask at the next look, however old the answer is: something was done.

        What is asked just now was asked too early, and is asked once more.
        """
        with self._lock:
            self._is_forgotten = True
            self._answer = replace(self._answer, is_outdated=True)
            self._asked = 0.0 if self._asked != float("inf") else self._asked

    def _renew(self) -> None:
        with self._lock:
            self._is_forgotten = False
        before, spent = self._answer, self._spent()
        found = before
        try:
            found = Answer(self._ask(), time.time())
        except FrappeJobsError as error:
            found = replace(before, error=str(error))
        finally:
            rest = REST * (self._spent() - spent)
            again = time.monotonic() + max(0.0, rest - self._pace)
            with self._lock:
                is_old = found.at == before.at and before.is_outdated
                self._answer = replace(found, is_outdated=is_old or self._is_forgotten)
                self._asked = 0.0 if self._is_forgotten else again


class Kept:
    """What was read a moment ago, for all who see the same; threads may ask at once."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, seconds: float, read: Callable[[], Any]) -> Any:
        """What was read so many seconds ago at most, else what it reads now."""
        now = time.monotonic()
        with self._lock:
            self._values = {one: kept for one, kept in self._values.items() if kept[0] > now}
            known = self._values.get(key)
        if known:
            return known[1]
        found = read()
        with self._lock:
            self._values[key] = now + seconds, found
        return found


@dataclass(frozen=True)
class Served:
    """The workers online, and the queues' rows."""

    workers: list[OnlineWorker]
    queues: list[dict[str, Any]]


class BenchPicture:
    """What the whole bench looks like."""

    def __init__(self, here: Runtime) -> None:
        self._here, self.kept = here, Kept()
        self._by_key: dict[Hashable, Asked[Any]] = {}
        self.served: Asked[Served] = Asked(self._look, WORKERS_PACE)
        self.findings: Asked[Sequence[Finding]] = Asked(
            partial(examination.look, here.settings.sites_path), DOCTOR_PACE, examination.spent
        )
        self.code: Asked[Code] = Asked(lambda: on_disk(here.settings.sites.apps()), CODE_PACE)
        self.past: Asked[Mapping[str, Past]] = Asked(lambda: past_of(here), PAST_PACE)

    def answer(self, key: Hashable, pace: float, ask: Callable[[], Value]) -> Answer[Value]:
        """The last answer to a question of those who see the same."""
        known: Asked[Value] | None = self._by_key.pop(key, None)
        self._by_key[key] = asked = known or Asked(ask, pace)  # the last
        for oldest in [*self._by_key][:-MOST_ANSWERS]:
            self._by_key.pop(oldest, None)
        return asked.latest(PATIENCE)

    def sites(self) -> Sequence[str]:
        """The names of all sites."""
        names: Sequence[str] = self.kept.get("sites", SITES_KEPT, self._here.settings.sites.names)
        return names

    def _look(self) -> Served:
        workers = self._here.broker.workers()
        consumers: dict[str, int] = {}
        for worker in workers:
            for queue in worker.queues:
                consumers[queue] = consumers.get(queue, 0) + worker.processes
        return Served(workers, queues.rows(self._here, consumers))
