"""A job's long loop: it commits how far it is, and goes on there when the job runs again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import dropwhile, islice
from typing import Any, Generic, TypeVar

from frappe_jobs.effects.run import Effects, PutOff
from frappe_jobs.errors import ArgumentError
from frappe_jobs.host.done_markers import DoneMarker

Row = TypeVar("Row")

#: A loop is put off that many seconds before the job's timeout; earlier if its rows take long.
MARGIN = 2.0


class Loop(Generic[Row]):
    """A loop of a run; ``frappe_jobs.resume`` says what it does."""

    def __init__(
        self, effects: Effects, name: str, key: Callable[[Row], Any] | None, every: int, pace: float
    ) -> None:
        if name in effects.names:
            raise ArgumentError(
                f"This job already has a step or a loop {name!r}: give each another name=…"
            )
        self._effects, self._name, self._key = effects, name, key
        self._every, self._pace = every, pace
        self._marker_name = effects.key(name)
        effects.names.add(name)
        self._marker = effects.look(self._marker_name) if effects.may_have_run else None
        said = json.loads(self._marker.result or "null") if self._marker else {}
        #: How many rows are done, the last one's key as JSON carries it, whether that is all.
        self._rows, self._at = said.get("rows", 0), said.get("at")
        self._is_over = said.get("over", False)

    def run(self, rows: Iterable[Row] | Callable[[Any], Iterable[Row]]) -> Iterator[Row]:
        """The rows that are left; commits between them and after the last, or raises PutOff."""
        if self._is_over:
            return
        committed_at, longest = time.monotonic(), 0.0
        for row in self._left(rows):
            began = time.monotonic()
            yield row
            now = time.monotonic()
            longest = max(longest, now - began)
            self._note(row)
            if self._effects.must_stop() or self._is_nearly_over(now, longest):
                self._commit()
                raise PutOff
            if self._rows % self._every == 0 or now - committed_at >= self._pace:
                self._commit()
                committed_at = time.monotonic()
        self._is_over = True
        self._commit()

    def _note(self, row: Row) -> None:
        self._rows += 1
        if self._key:
            self._at = self._effects.arguments.encode_value(self._key(row), "key")

    def _commit(self) -> None:
        text = json.dumps({"rows": self._rows, "at": self._at, "over": self._is_over})
        marker = DoneMarker(self._marker_name, self._effects.run, text)
        self._effects.commit_with(marker, self._marker)
        self._marker = marker

    def _left(self, rows: Iterable[Row] | Callable[[Any], Iterable[Row]]) -> Iterable[Row]:
        at, key = self._effects.arguments.decode_value(self._at), self._key
        if callable(rows):
            return rows(at)
        if key is None or not self._rows:
            return islice(rows, self._rows, None)
        left = dropwhile(lambda row: key(row) != at, rows)
        if next(left, left) is left:
            raise ArgumentError(
                f"The loop {self._name!r} cannot go on: the row {at!r}, the last that it had done, "
                "is not among its rows any more. Give resume() a function of the last key that "
                "reads the rows after it."
            )
        return left

    def _is_nearly_over(self, now: float, longest: float) -> bool:
        timeout = self._effects.message.timeout
        margin = min(max(MARGIN, 2 * longest), timeout / 2)
        return now - self._effects.began > timeout - margin
