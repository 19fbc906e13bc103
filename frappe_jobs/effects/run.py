"""What a run of a job does once: its work, and each of its steps, is committed with a marker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

from frappe_jobs.arguments import Arguments
from frappe_jobs.errors import ArgumentError, BrokerUnavailable
from frappe_jobs.host.done_markers import AlreadyDone, DoneMarker, DoneMarkers
from frappe_jobs.host.session import Session
from frappe_jobs.ledger import Ledger
from frappe_jobs.message import Message

#: Characters of JSON up to which a result is kept with its done marker.
LONGEST_RESULT = 10_000
#: Characters of a step's name; of a longer name a hash is kept.
LONGEST_NAME = 140


# BaseExceptions: a method that catches every Exception must not catch these.


class LeaseLost(BaseException):
    """Another run counts by now, or the job has ended: this run must not commit."""


class PutOff(BaseException):
    """The job is to go on in another run: its worker stops, or its time is nearly over."""


@dataclass
class Effects:
    """What one run of a job commits."""

    message: Message
    #: The run's own id; it is in the job's record while the run counts.
    run: str
    session: Session
    ledger: Ledger
    arguments: Arguments
    #: None where done markers are turned off.
    markers: DoneMarkers | None
    #: Whether an earlier run may have committed something.
    may_have_run: bool
    #: Whether the worker is to stop soon.
    must_stop: Callable[[], bool] = lambda: False
    #: Whether a commit with the job's own done marker was tried.
    is_marked: bool = False
    #: Whether it has committed a step, or some rows of a loop.
    went_on: bool = False
    #: When the run began, by the monotonic clock.
    began: float = field(default_factory=time.monotonic)
    #: The names of its steps and loops so far.
    names: set[str] = field(default_factory=set)

    # --- the whole job

    def commit(self, text: str) -> None:
        """Commit the work of a method that has returned; with a done marker if it wrote anything.

        ``text`` is its result as JSON.  Raises LeaseLost or AlreadyDone, and nothing is committed.
        """
        self.session.commit(partial(self._mark, self.markers, text) if self.markers else None)

    def _mark(self, markers: DoneMarkers, text: str) -> None:
        self._require_lease()
        self.is_marked = True
        kept = text if len(text) <= LONGEST_RESULT else None
        markers.put(self.session, DoneMarker(self.message.id, self.run, kept))

    def done(self) -> DoneMarker | None:
        """The job's marker if its work is committed; rolls the open transaction back."""
        return self.markers.find(self.session, self.message.id) if self.markers else None

    def _require_lease(self) -> None:
        """Raise LeaseLost if the job runs elsewhere by now, or has ended."""
        try:
            is_held = self.ledger.is_held(self.message, self.run)
        except BrokerUnavailable:  # the marker alone lets only one run commit
            return
        if not is_held:
            raise LeaseLost

    # --- a step

    def step(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What ``frappe_jobs.step`` does."""
        key = self.key(name)
        if (self.may_have_run or name in self.names) and (known := self.look(key)):
            return self.arguments.decode_value(json.loads(known.result or "null"))
        self.names.add(name)
        value = method(*args, **kwargs)
        text = json.dumps(self.arguments.encode_value(value, "result"))
        if len(text) > LONGEST_RESULT:
            raise ArgumentError(
                f"The step {name!r} has returned {len(text):,} characters of JSON; up to "
                f"{LONGEST_RESULT:,} are kept. Return less, such as the name of a document."
            )
        self.commit_with(DoneMarker(key, self.run, text), None)
        return value

    def commit_with(self, marker: DoneMarker, before: DoneMarker | None) -> None:
        """Commit with that marker in place of the marker ``before``.

        Raises LeaseLost, or PutOff if another run was quicker; then nothing is committed.
        """
        if self.markers:
            self._require_lease()
            try:
                self.markers.put(self.session, marker, before)
            except AlreadyDone:  # by a run that had stood still; the next run goes on behind it
                raise PutOff from None
        self.session.commit()
        if self.may_have_run and not self.went_on:
            self.went_on = True
            with suppress(BrokerUnavailable):  # they count once more, then
                self.ledger.went_on(self.message, self.run)

    def look(self, key: str) -> DoneMarker | None:
        """The marker, as the open transaction sees it."""
        return self.markers.look(self.session, key) if self.markers else None

    def key(self, name: str) -> str:
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"A step's name must be a text that is not empty; not {name!r}.")
        short = name if len(name) <= LONGEST_NAME else sha256(name.encode()).hexdigest()
        return f"{self.message.begun_as} {short}"


_current: ContextVar[Effects | None] = ContextVar("effects", default=None)


def current() -> Effects | None:
    """The effects of the job that runs here; None outside a job."""
    return _current.get()


@contextmanager
def running(effects: Effects) -> Iterator[None]:
    """Inside, ``current`` gives these effects."""
    token = _current.set(effects)
    try:
        yield
    finally:
        _current.reset(token)
