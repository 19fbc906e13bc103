"""The one list of processes that every process manager's configuration is made from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, count

from frappe_jobs.config import Settings

#: Seconds from a worker's last job, or from the scheduler's last look, until the process is gone.
LEAVING = 15

#: Characters that a name keeps in every process manager, and how many of them.
PLAIN, LONGEST = re.compile(r"[^A-Za-z0-9_.-]"), 80


@dataclass(frozen=True)
class Process:
    """A process that has to run, and its name for process managers."""

    name: str
    #: ``frappe-jobs`` and its arguments.
    command: tuple[str, ...]
    #: Seconds that it may need to end by itself.
    stop_wait: int = LEAVING

    def __str__(self) -> str:
        return shlex.join(self.command)


def processes(settings: Settings) -> list[Process]:
    """One worker for each queue, with ``background_workers`` processes each, and a scheduler.

    A worker may need its queue's timeout and the grace to end; with ``frappe_jobs_stop_grace`` it
    hands back after that.
    """
    found = []
    for queue in settings.queues.values():
        command = ["frappe-jobs", "worker", "--queue", queue.name]
        if queue.background_workers > 1:
            command += ["--concurrency", str(queue.background_workers)]
        longest = queue.timeout + settings.timeout_grace
        wait = LEAVING + min(longest, settings.stop_grace or longest)
        found.append(Process(plain(f"worker_{queue.name}"), tuple(command), wait))
    return [*found, Process("scheduler", ("frappe-jobs", "schedule"))]


def plain(name: str) -> str:
    """The name itself where every process manager takes it, else one that is as unique."""
    kept = PLAIN.sub("_", name)
    if kept == name and len(name) <= LONGEST:
        return name
    return f"{kept[:LONGEST]}-{sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def free(name: str, taken: Container[str]) -> str:
    """That name, or the first of name_2, name_3, … that is free."""
    numbered = (f"{name}_{number}" for number in count(2))
    return next(candidate for candidate in chain([name], numbered) if candidate not in taken)
