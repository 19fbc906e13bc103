"""What a machine says of its Redis being away: noted in a file, for all its processes.

One process at a time has the file; the system takes it from one that is killed, and the next one
says what is not noted as said.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from frappe_jobs.alerts.incidents import GIVEN_UP
from frappe_jobs.alerts.targets import Notice
from frappe_jobs.embedded import FOLDER

NAME, LOCK = "redis-away", "redis-away.lock"
RULE = "redis-away"

#: Says a notice to the target of that name; whether that took it.
Say = Callable[[str, Notice], bool]


class RedisAway:
    """The incident of one sites folder on this machine, if there is one."""

    def __init__(self, sites_path: Path, targets: Sequence[str]) -> None:
        self._folder, self._targets = sites_path / FOLDER, targets
        self._file, self._lock = self._folder / NAME, self._folder / LOCK

    def begins(self, text: str, say: Say) -> None:
        """Say that it is away, unless that is said; also what was not taken before."""
        with self._alone() as is_mine:
            if is_mine:
                state = self._read()
                if state is None or state["is_over"]:
                    left = state["unsaid"] if state else []
                    state = {"incident": uuid4().hex[:12], "is_over": False, "unsaid": left}
                    self._note(state, "begins", text)
                self._say(state, say)

    def is_over(self, text: str, say: Say) -> None:
        """Say that it is back, unless that is said or it never was away."""
        if not self._file.exists():
            return
        with self._alone() as is_mine:
            if is_mine and (state := self._read()):
                if not state["is_over"]:
                    state["is_over"] = True
                    self._note(state, "over", text)
                self._say(state, say)
                if not state["unsaid"]:
                    self._file.unlink()

    def _note(self, state: dict[str, Any], what: str, text: str) -> None:
        """What is to be said to each target, before it is said to any."""
        at = time.time()
        incident = state["incident"]
        state["unsaid"] += [[target, incident, what, text, at] for target in self._targets]
        self._write(state)

    def _say(self, state: dict[str, Any], say: Say) -> None:
        """In order: a target that does not take the beginning is not told of the end before it."""
        refused = set[str]()
        for one in [*state["unsaid"]]:
            target, incident, what, text, at = one
            is_late = time.time() - at > GIVEN_UP or target not in self._targets
            if target in refused:
                continue
            if is_late or say(target, Notice(incident, RULE, what, text, at)):
                state["unsaid"].remove(one)
                self._write(state)
            else:
                refused.add(target)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process has the file; also no, where nothing can be written."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            file = self._lock.open("w")
        except OSError:
            yield False
            return
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a forked child has it not
            except OSError:
                yield False
                return
            yield True

    def _read(self) -> dict[str, Any] | None:
        with suppress(OSError, ValueError):
            state = json.loads(self._file.read_text())
            if isinstance(state, dict) and {"incident", "is_over", "unsaid"} <= state.keys():
                return state
        return None

    def _write(self, state: dict[str, Any]) -> None:
        """Whole, or not at all."""
        fresh = self._file.with_name(f"{NAME}.{os.getpid()}")
        fresh.write_text(json.dumps(state))
        fresh.replace(self._file)
