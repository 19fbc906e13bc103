"""A sign of life: a small file that a worker or a scheduler writes anew every few seconds.

A health probe reads it in a few milliseconds, and asks no server: what the process says of its
servers stands in it.  The process holds a lock on its file, which the system frees when it ends,
however it ends: so a process that is gone is told from one that stands still.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

#: Below the sites folder.
FOLDER = ".frappe_jobs_alive"

#: Bytes of a file: written in place, so that a full disk keeps no sign from being given.
SIZE = 4096

#: Seconds between two signs, and without one after which a process counts as standing still.
INTERVAL, STILL = 2.0, 15.0

#: Seconds after which a file that nobody holds is a dead process's, not one that has just begun.
OLD = 60

WORKER, SCHEDULER = "worker", "scheduler"


class Sign:
    """This process's; every method raises OSError where the file cannot be written."""

    def __init__(self, sites_path: Path, kind: str, **facts: Any) -> None:
        self._folder, self._kind = sites_path / FOLDER, kind
        self._facts = facts | {"host": os.uname().nodename, "pid": os.getpid()}
        self._path = self._folder / f"{kind}-{uuid4().hex}"
        self._descriptor: int | None = None
        self._has_left = False

    def give(self, fault: str = "", state: str = "") -> None:
        """Say that it goes on; ``fault`` is why it does not, ``state`` what it does."""
        if self._has_left:
            return
        descriptor = self._open_if_gone()
        line = self._facts | {"at": time.monotonic(), "fault": fault, "state": state}
        text = json.dumps(line)
        if len(text) > SIZE:  # of very many queues, or a long fault
            text = json.dumps(line | {"fault": fault[:200], "queues": None})
        os.pwrite(descriptor, text.encode().ljust(SIZE), 0)

    def _open_if_gone(self) -> int:
        """Its descriptor; somebody may have tidied the folder up."""
        if self._descriptor is not None:
            if os.fstat(self._descriptor).st_nlink:
                return self._descriptor
            os.close(self._descriptor)
        self._descriptor = self._open()
        return self._descriptor

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._folder.iterdir():  # of processes that were killed
            with suppress(OSError):
                is_old = time.time() - path.stat().st_mtime > OLD
                if is_old and not _is_held(path):
                    path.unlink()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        # Not inherited by the processes that are forked: they may live for longer.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor

    def leave(self) -> None:
        """The process ends: nothing is to be expected of it."""
        self._has_left = True
        with suppress(OSError):
            self._path.unlink()


@dataclass(frozen=True)
class Seen:
    """A living process of this machine, by its last sign."""

    name: str
    #: None: too many to be named.
    queues: list[str] | None
    #: Seconds since its last sign.
    age: float
    fault: str
    state: str


def look(sites_path: Path, kind: str) -> list[Seen]:
    """The living processes of that kind on this machine, oldest sign last."""
    return sorted(_look(sites_path / FOLDER, kind), key=lambda seen: seen.age)


def _look(folder: Path, kind: str) -> Iterator[Seen]:
    host = os.uname().nodename
    for path in folder.glob(f"{kind}-*"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # it ends, or has just begun
            if _is_held(path) and (sign := json.loads(path.read_text()))["host"] == host:
                yield Seen(
                    sign["name"], sign.get("queues"), time.monotonic() - sign["at"],
                    sign["fault"], sign["state"],
                )  # fmt: skip


def _is_held(path: Path) -> bool:
    """Whether the process whose file that is lives."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
