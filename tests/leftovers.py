"""Ends what a run of the tests has started, once the run itself is gone, however it ended.

Whoever it started inherits a mark in the environment, and keeps it whatever becomes of its parents.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from uuid import uuid4

#: Not one of ours by its name: what the tests begin is given none of those that are set here.
MARK = "TESTS_OF_FRAPPE_JOBS"

#: Seconds in which the run's own processes end by themselves.
GRACE = 1.0
INTERVAL = 0.2
PAUSE = Event()


def watch() -> None:
    """Mark this process and all that it starts, and have them ended when it is gone."""
    if not Path("/proc/self/environ").exists():
        return
    unmarked = dict(os.environ)
    os.environ[MARK] = mark = uuid4().hex
    # No Popen: it would complain that its process still runs.
    arguments = [sys.executable, __file__, mark, str(os.getpid())]
    os.spawnve(os.P_NOWAIT, sys.executable, arguments, unmarked)


def marked(mark: str) -> list[int]:
    """The processes that have it."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it is gone, or another user's
            continue
    return found


def end(mark: str) -> None:
    """Kill them, and what they start meanwhile."""
    deadline = time.monotonic() + GRACE
    while (left := marked(mark)) and time.monotonic() < deadline:
        PAUSE.wait(INTERVAL)
    while left:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        PAUSE.wait(INTERVAL)
        left = marked(mark)


if __name__ == "__main__":
    _, its_mark, its_pid = sys.argv
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # whoever reads the run's output reads to its end
        os.dup2(nothing, stream)
    while os.getppid() == int(its_pid):
        PAUSE.wait(INTERVAL)
    end(its_mark)
