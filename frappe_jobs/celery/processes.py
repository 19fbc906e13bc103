"""What a job has started, and its end: nothing of a run may work on when the job runs again.

Whose a process is shows where it hangs in the tree of processes.  Linux lets a worker and its
processes adopt what is orphaned below them, so that neither a session of its own nor a parent that
has ended takes one out of sight.  Elsewhere a process's group is all that is known of it.

One that a job which finished has left, in a group or session of its own, is nobody's: a daemon that
was started on purpose.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from billiard.process import current_process

logger = logging.getLogger(__name__)

#: From Linux's <sys/prctl.h>: orphans below this process become its children, not init's.
PR_SET_CHILD_SUBREAPER = 36

#: Seconds for which one is waited for that was killed: the kernel may be in the middle of its disk.
KILL_TIMEOUT = 5.0
INTERVAL = 0.002

PROC = Path("/proc")


class Process(NamedTuple):
    """One line of the system's table."""

    pid: int
    parent: int
    group: int
    is_dead: bool
    #: In the clock's ticks since the machine's start.
    started: int

    @property
    def identity(self) -> tuple[int, int]:
        """A number may be another process's later."""
        return self.pid, self.started


def adopt_orphans() -> None:
    """Have what is orphaned below this process become its child."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def send_signal(pid: int, number: signal.Signals) -> bool:
    """False if that process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end(pid: int, since: float | None = None) -> bool:
    """Kill one of this worker's processes, and what its job has started; back once they are gone.

    ``since`` is when the job began, in the system's time.  False if that process is gone
    already, or is the worker itself: a pool of threads cannot be killed.
    """
    if pid == os.getpid() or not send_signal(pid, signal.SIGSTOP):  # it starts no more of them
        return False
    began = _ticks(since)

    def left() -> list[Process]:
        found = below(pid)
        return [one for one in found if one.group == pid or one.started >= began]

    _kill_all(left)
    send_signal(pid, signal.SIGKILL)
    with suppress(OSError):  # where the system says nothing of its tree
        os.killpg(pid, signal.SIGKILL)
    _wait(lambda: [one for one in (_line(pid),) if one and not one.is_dead])
    return True


def end_orphans(pid: int, since: float) -> None:
    """Kill what one of this worker's processes has left, which is gone; back once they are, too."""
    own_group, began = os.getpgrp(), _ticks(since)

    def left() -> list[Process]:
        found = [one for one in orphans() if one.group != own_group]
        return [one for one in found if one.group == pid or one.started >= began]

    def left_with_theirs() -> list[Process]:
        table = look()
        roots = left()
        return [*roots, *(one for root in roots for one in below(root.pid, table))]

    if PROC.joinpath("self/stat").exists():
        _kill_all(left_with_theirs)
        reap_orphans()
    else:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def orphans() -> list[Process]:
    """The children of this worker that are no processes of its pool."""
    own, pool = os.getpid(), {one.pid for one in [*current_process()._children]}
    return [one for one in look() if one.parent == own and one.pid not in pool]


def reap_orphans() -> None:
    """Let go of those that have ended; nobody else would."""
    for one in orphans():
        if one.is_dead:
            _reap(one.pid)


def pause_together() -> None:
    """Stand still with the worker at Ctrl+Z, which the terminal says to the worker's group alone.

    A job that went on meanwhile would have nobody who renews its lease.
    """

    def on_stop(*_: object) -> None:
        pool = [one.pid for one in [*current_process()._children]]
        _tell_groups(pool, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _tell_groups(pool, signal.SIGCONT)

    signal.signal(signal.SIGTSTP, on_stop)


def _tell_groups(groups: list[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(OSError):
            os.killpg(group, number)


def children() -> list[int]:
    """Of this process, in one look that costs next to nothing where there are none."""
    found: list[int] = []
    with suppress(OSError):
        for thread in PROC.joinpath("self/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


class Started:
    """What the job that begins now starts, seen from the process that runs it."""

    #: Children that were dead already when the last job began.
    _dead: set[tuple[int, int]] = set()

    def __init__(self) -> None:
        there = below(os.getpid()) if children() else []
        self._before = {one.identity for one in there}
        dead = {one.identity for one in there if one.is_dead and one.parent == os.getpid()}
        if forgotten := dead & Started._dead:
            _forget(forgotten)
        Started._dead = dead - forgotten

    def end(self) -> bool:
        """Kill it, and be back once it is gone; False if there is nothing."""
        return bool(children()) and _kill_all(
            lambda: [one for one in below(os.getpid()) if one.identity not in self._before]
        )


def _forget(dead: set[tuple[int, int]]) -> None:
    """Let go of children that nobody has waited for during a whole job: orphans, as a rule."""
    if module := sys.modules.get("multiprocessing"):
        module.active_children()  # asks for its own, and notes their ends
    for pid, _ in dead:
        _reap(pid)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def look() -> list[Process]:
    """The system's table, where it has one that can be read."""
    return [*_read()]


def _read() -> Iterator[Process]:
    try:
        names = os.listdir(PROC)
    except OSError:
        return
    for name in names:
        if name.isdecimal() and (line := _line(int(name))):
            yield line


def _line(pid: int) -> Process | None:
    try:
        text = PROC.joinpath(str(pid), "stat").read_bytes()
    except OSError:  # it is gone
        return None
    state, parent, group, *more = text.rpartition(b")")[2].split()  # before it stands its name
    return Process(pid, int(parent), int(group), state in b"ZX", int(more[16]))


def below(pid: int, table: list[Process] | None = None) -> list[Process]:
    """All that descend from that process."""
    children: dict[int, list[Process]] = {}
    for one in look() if table is None else table:
        children.setdefault(one.parent, []).append(one)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        its = children.get(waiting.pop(), [])
        found += its
        waiting += [one.pid for one in its]
    return found


def _ticks(since: float | None) -> float:
    """That time in the table's terms; 0 for None, so that all have started since."""
    if since is None:
        return 0
    now = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    rounded = 2
    return (now - (time.time() - since)) * os.sysconf("SC_CLK_TCK") - rounded


def _kill_all(left: Callable[[], list[Process]]) -> bool:
    """Kill these, and those that they start meanwhile; whether there was one."""
    met: set[int] = set()

    def killed() -> list[Process]:
        living = [one for one in left() if not one.is_dead]
        met.update(one.pid for one in living)
        for one in living:
            with suppress(OSError):  # it is gone; or another user's
                os.kill(one.pid, signal.SIGKILL)
        return living

    if still := _wait(killed):
        logger.error("processes that a job has started do not end: %s", [one.pid for one in still])
    return bool(met)


def _wait(left: Callable[[], list[Process]]) -> list[Process]:
    """Until there is none; what there is in the end."""
    deadline = time.monotonic() + KILL_TIMEOUT
    pause = threading.Event()
    while (found := left()) and time.monotonic() < deadline:
        pause.wait(INTERVAL)
    return found
