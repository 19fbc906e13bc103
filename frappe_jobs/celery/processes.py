"""Find and kill what a job has started: none of it may still work when the job runs again.

A process belongs to the job below which it hangs in the tree of processes.  On Linux a worker and
its processes adopt orphans below them, so neither a session of its own nor a parent that has ended
hides a process.  Elsewhere only a process's group is known.

What a finished job has left in a group or session of its own is left alone: a daemon, started on
purpose.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from billiard.process import current_process

logger = logging.getLogger(__name__)

#: From Linux's <sys/prctl.h>: orphans below this process become its children, not init's.
PR_SET_CHILD_SUBREAPER = 36

#: Seconds to wait for a killed process: the kernel may be in the middle of a disk access for it.
KILL_TIMEOUT = 5.0
INTERVAL = 0.002

PROC = Path("/proc")


class Process(NamedTuple):
    """A line of the system's table."""

    pid: int
    parent: int
    group: int
    is_dead: bool
    #: In the clock's ticks since the machine's start.
    started: int

    @property
    def identity(self) -> tuple[int, int]:
        """The pid alone may belong to another process later."""
        return self.pid, self.started


def adopt_orphans() -> None:
    """Have orphans below this process become its children."""
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
    """Kill a process of this worker, and what its job has started; return once they are gone.

    ``since`` is when the job began, in the system's time.  False if that process is already
    gone, or is the worker itself: a pool of threads cannot be killed.
    """
    if pid == os.getpid() or not send_signal(pid, signal.SIGSTOP):  # it starts no more of them
        return False
    began = _ticks(since)

    def left() -> list[Process]:
        found = below(pid)
        return [process for process in found if process.group == pid or process.started >= began]

    _kill_all(left)
    send_signal(pid, signal.SIGKILL)
    with suppress(OSError):  # for systems that do not show their tree
        os.killpg(pid, signal.SIGKILL)
    _wait(lambda: [process for process in (_line(pid),) if process and not process.is_dead])
    return True


def end_orphans(pid: int, since: float) -> None:
    """Kill what a dead process of this worker has left; return once it is gone."""
    own_group, began = os.getpgrp(), _ticks(since)

    def left() -> list[Process]:
        found = [process for process in orphans() if process.group != own_group]
        return [process for process in found if process.group == pid or process.started >= began]

    def left_with_theirs() -> list[Process]:
        table = look()
        roots = left()
        return [*roots, *(process for root in roots for process in below(root.pid, table))]

    if PROC.joinpath("self/stat").exists():
        _kill_all(left_with_theirs)
        reap_orphans()
    else:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def orphans() -> list[Process]:
    """The children of this worker that are not processes of its pool."""
    own, pool = os.getpid(), {process.pid for process in [*current_process()._children]}
    return [process for process in look() if process.parent == own and process.pid not in pool]


def reap_orphans() -> None:
    """Reap the orphans that have ended; nothing else would."""
    with suppress(ChildProcessError):
        for process in orphans() if _has_dead_children() else ():
            if process.is_dead:
                _reap(process.pid)


def pause_together() -> None:
    """Stop and continue the processes with the worker: Ctrl+Z reaches only the worker's group.

    Nothing would renew the lease of a job that went on meanwhile.
    """

    def on_stop(*_: object) -> None:
        pool = [process.pid for process in [*current_process()._children]]
        _tell_groups(pool, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _tell_groups(pool, signal.SIGCONT)

    signal.signal(signal.SIGTSTP, on_stop)


def _tell_groups(groups: list[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(OSError):
            os.killpg(group, number)


def has_children() -> bool:
    """Whether this process has any, also such as have ended; costs one call of the system."""
    try:
        _has_dead_children()
    except ChildProcessError:
        return False
    return True


def _has_dead_children() -> bool:
    """Whether one has ended that nobody has waited for; raises ChildProcessError if it has none.

    Where the system does not say, that has to be looked for.
    """
    if sys.platform != "linux":
        return True
    return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Started:
    """What the job that begins now will start, seen from the process that runs it."""

    #: Children that were already dead when the last job began.
    _dead: set[tuple[int, int]] = set()

    def __init__(self) -> None:
        there = below(os.getpid()) if has_children() else []
        self._before = {process.identity for process in there}
        dead = {
            process.identity
            for process in there
            if process.is_dead and process.parent == os.getpid()
        }
        if forgotten := dead & Started._dead:
            _forget(forgotten)
        Started._dead = dead - forgotten

    def end(self) -> bool:
        """Kill it, and return once it is gone; False if there is nothing."""
        return has_children() and _kill_all(self._left)

    def _left(self) -> list[Process]:
        found = below(os.getpid())
        return [process for process in found if process.identity not in self._before]


def _forget(dead: set[tuple[int, int]]) -> None:
    """Reap children that were not waited for during a whole job: orphans, as a rule."""
    if module := sys.modules.get("multiprocessing"):
        module.active_children()  # reaps its own, and notes their ends
    for pid, _ in dead:
        _reap(pid)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def look() -> list[Process]:
    """The system's table of processes; empty if it cannot be read."""
    try:
        names = os.listdir(PROC)
    except OSError:
        return []
    return [line for name in names if name.isdecimal() and (line := _line(int(name)))]


def _line(pid: int) -> Process | None:
    try:
        text = PROC.joinpath(str(pid), "stat").read_bytes()
    except OSError:  # it is gone
        return None
    state, parent, group, *more = text.rpartition(b")")[2].split()  # after its name
    return Process(pid, int(parent), int(group), state in b"ZX", int(more[16]))


def below(pid: int, table: list[Process] | None = None) -> list[Process]:
    """All that descend from that process."""
    children: dict[int, list[Process]] = {}
    for process in look() if table is None else table:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        its = children.get(waiting.pop(), [])
        found += its
        waiting += [process.pid for process in its]
    return found


def _ticks(since: float | None) -> float:
    """That time in the table's ticks; 0 for None: everything has started since then."""
    if since is None:
        return 0
    now = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    rounded = 2
    return (now - (time.time() - since)) * os.sysconf("SC_CLK_TCK") - rounded


def _kill_all(left: Callable[[], list[Process]]) -> bool:
    """Kill these, and those that they start meanwhile; says whether there were any."""
    met: set[int] = set()

    def killed() -> list[Process]:
        living = [process for process in left() if not process.is_dead]
        met.update(process.pid for process in living)
        for process in living:
            with suppress(OSError):  # it is gone, or belongs to another user
                os.kill(process.pid, signal.SIGKILL)
        return living

    if still := _wait(killed):
        pids = [process.pid for process in still]
        logger.error("processes that a job has started do not end: %s", pids)
    return bool(met)


def _wait(left: Callable[[], list[Process]]) -> list[Process]:
    """Wait until there are none, or the time is over; gives those that are left."""
    deadline = time.monotonic() + KILL_TIMEOUT
    pause = threading.Event()
    while (found := left()) and time.monotonic() < deadline:
        pause.wait(INTERVAL)
    return found
