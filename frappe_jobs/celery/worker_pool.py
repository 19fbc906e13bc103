"""Several workers under one parent, which starts once and shares its memory by forking.

A scheduler may run beside them.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, Union

from frappe_jobs.celery import hangup
from frappe_jobs.celery.child import follow
from frappe_jobs.celery.processes import send_signal
from frappe_jobs.celery.scheduler import Scheduler
from frappe_jobs.celery.stopping import SIGNALS
from frappe_jobs.celery.worker import Worker, say_ready

#: What a pool keeps running.
Member = Union[Worker, Scheduler]

#: A member that ends within these seconds is started again that much later.
PAUSE = 1.0

#: What runs in a forked process: the member, and what it calls once it is ready.
Start = Callable[[Member, Callable[[], object]], None]


class WorkerPool:
    """Starts its members, replaces those that die, and ends when all have ended."""

    def __init__(self, members: Sequence[Member], start: Start) -> None:
        self._start = start
        self._waiting = [(0.0, member) for member in members]  # when to start it
        self._running: dict[int, tuple[float, Member]] = {}  # by pid: since when it runs
        self._missing = len(members)  # how many have not been ready yet
        self._stops = False
        self._status = 0
        self._own_pid = os.getpid()
        self._ready, self._say_ready = os.pipe()
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self) -> NoReturn:
        """Run until all have ended, by themselves (burst) or because of a signal; then exit."""
        for number in SIGNALS:
            signal.signal(number, self._forward)
        hangup.take()
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
        gc.freeze()  # what is there now stays shared: the collector must not touch it
        while self._running or self._waiting:
            self._start_due()
            self._wait()
            self._reap()
        sys.exit(self._status)

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [member for when, member in self._waiting if when <= now]
        self._waiting = [(when, member) for when, member in self._waiting if when > now]
        for member in due:
            if (pid := os.fork()) == 0:
                self._become(member)
            self._running[pid] = now, member

    def _become(self, member: Member) -> NoReturn:
        """In the forked process: become that member, and drop what is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        follow(self._own_pid, signal.SIGTERM)
        status = 1
        try:
            self._start(member, lambda: os.write(self._say_ready, b"!"))
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _wait(self) -> None:
        """Wait until a signal comes, a member is ready, or a member is to be started."""
        pause = PAUSE if self._waiting else None
        for fd in select.select([self._ready, self._woken], [], [], pause)[0]:
            came = len(os.read(fd, 4096))
            if fd == self._ready and self._missing > 0:
                self._missing -= came
                if self._missing <= 0:
                    say_ready()

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid not in self._running:
                continue
            since, member = self._running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code == 0 and (self._stops or member.burst):
                continue
            if self._stops:
                self._status = 1
                continue
            who = f"scheduler {pid}"
            if isinstance(member, Worker):
                who = f"worker {pid} ({','.join(member.queues)})"
            print(f"{who} ended with {code}: it is started again", file=sys.stderr, flush=True)
            now = time.monotonic()
            self._waiting.append((now if now - since > PAUSE else now + PAUSE, member))

    def _forward(self, number: int, _frame: object) -> None:
        self._stops = True
        self._waiting.clear()
        for pid, (_, member) in [*self._running.items()]:
            is_worker = isinstance(member, Worker)  # beat takes no SIGQUIT
            send_signal(pid, signal.Signals(number) if is_worker else signal.SIGTERM)
