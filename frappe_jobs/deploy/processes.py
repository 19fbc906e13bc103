"""The one list of processes that every process manager's configuration is made from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from frappe_jobs.config import Settings


@dataclass(frozen=True)
class Process:
    """A process that has to run, and its name for process managers."""

    name: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.command)


def processes(settings: Settings) -> list[Process]:
    """One worker for each queue, with ``background_workers`` processes each, and a scheduler."""
    found = []
    for queue in settings.queues.values():
        command = ["frappe-jobs", "worker", "--queue", queue.name]
        if queue.background_workers > 1:
            command += ["--concurrency", str(queue.background_workers)]
        found.append(Process(f"worker_{queue.name}", tuple(command)))
    return [*found, Process("scheduler", ("frappe-jobs", "schedule"))]
