"""Workers that are killed, and replaced as a supervisor would."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import AbstractContextManager, ExitStack
from random import Random
from threading import Event
from typing import Any

from frappe_jobs.celery import guard
from frappe_jobs.testing import wait_until

#: Whom a kill meets: a process that runs jobs, a worker's parent alone, a worker with all it has.
CHILD, PARENT, GROUP = "child", "parent", "group"

#: How Celery names the end of a worker one of whose first processes has died.
NOT_STARTED = "Could not start worker processes"


class Crew(AbstractContextManager["Crew"]):
    """So many workers of one bench."""

    def __init__(self, bench: Any, *arguments: str, size: int = 2) -> None:
        self._bench, self._command = bench, ("worker", *arguments)
        self._stack = ExitStack()
        self._started: list[Any] = []  # the dead ones as well
        self._workers = [self._start() for _ in range(size)]

    def _start(self) -> Any:
        self._started.append(self._stack.enter_context(self._bench.process(*self._command)))
        return self._started[-1]

    def __enter__(self) -> Crew:
        try:
            for worker in self._workers:
                worker.wait_ready()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if error[0]:
            print(self.logs)
        self._stack.close()

    @property
    def logs(self) -> str:
        """What they said, without each job's lines."""
        lines = [line for worker in self._started for line in ("", *worker.lines)]
        return "\n".join(line for line in lines if "] Task acme.tasks.run[" not in line)

    @property
    def sent_again(self) -> int:
        """How many messages the workers' sweep has found to be lost, and has sent again."""
        return self.logs.count(" is sent again: its message ")

    def assert_alive(self) -> None:
        """That none has ended by itself, but for one whose processes were killed at its start.

        Celery ends such a worker, for they may never start; it is replaced.
        """
        for place, worker in enumerate(self._workers):
            if worker.process.poll() is not None:
                assert NOT_STARTED in worker.log, self.logs
                self._workers[place] = self._start()

    def kill(self, random: Random) -> str:
        """``kill -9`` one of them, or one of its processes; says which kind."""
        self.assert_alive()
        place = random.randrange(len(self._workers))
        pid = self._workers[place].process.pid
        kind = random.choice((CHILD, CHILD, PARENT, GROUP))
        if kind == CHILD and (children := children_of(pid)):
            kill(random.choice(children))
            return CHILD
        kind = PARENT if kind == CHILD else kind  # it has none yet, or just lost its only one
        if kind == GROUP:  # which one that was just started has yet to make
            wait_until(lambda: os.getpgid(pid) == pid, 10)
        (os.killpg if kind == GROUP else os.kill)(pid, signal.SIGKILL)
        self._workers[place].process.wait(10)
        self._workers[place] = self._start()
        return kind

    def replace_one(self, random: Random) -> None:
        """SIGTERM to one of them; another one takes its place once it has ended."""
        place = random.randrange(len(self._workers))
        self._workers[place].process.send_signal(signal.SIGTERM)
        assert self._workers[place].process.wait(60) == 0
        self._workers[place] = self._start()

    def stop(self, *, to_group: bool, times: int, pause: float) -> list[int]:
        """SIGTERM to each of them, so often, so many seconds apart; their exit statuses."""
        tell = os.killpg if to_group else os.kill
        for number in range(times):
            if number:
                Event().wait(pause)
            for worker in self._workers:
                if worker.process.poll() is None:
                    tell(worker.process.pid, signal.SIGTERM)
        return self.wait(60)

    def wait(self, timeout: float) -> list[int]:
        """The exit statuses, once all have ended by themselves."""
        return [worker.process.wait(timeout) for worker in self._workers]


def children_of(pid: int) -> list[int]:
    """Those of a worker that run its jobs."""
    command = ["ps", "-A", "-o", "pid=,ppid=,args="]
    listing = subprocess.run(command, capture_output=True, text=True)
    lines = (line.split(maxsplit=2) for line in listing.stdout.splitlines())
    return sorted(
        int(child) for child, parent, *its in lines
        if int(parent) == pid and not any(guard.NAME in one for one in its)
    )  # fmt: skip


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it ended by itself meanwhile
        pass
