"""Where a bench's processes run: what a process manager has to be told beside the commands."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frappe_jobs.config import Settings, settings_table, variable
from frappe_jobs.deploy.processes import Process, plain
from frappe_jobs.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """A bench on this machine: its names, folders, program and user."""

    bench_id: str
    sites_path: Path
    #: The words that begin each command: ``frappe-jobs`` of this environment, by its whole path.
    program: tuple[str, ...]
    user: str

    @property
    def folder(self) -> Path:
        """The bench's folder, in which the processes run."""
        return self.sites_path.parent

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def name(self) -> str:
        """The bench's name for process managers."""
        return plain(self.bench_id)

    @property
    def bin(self) -> str:
        """The folder of the environment's programs, for those that a job starts."""
        return os.path.dirname(self.program[0])

    def words(self, process: Process) -> list[str]:
        """The whole command."""
        return [*self.program, *process.command[1:]]


def here(settings: Settings, user: str | None = None) -> Place:
    """This machine, this Python's environment, this user unless another is named.

    Raises ConfigError for a folder whose path no process manager can be given.
    """
    place = Place(
        settings.bench_id, settings.sites_path, _program(), user or getpass.getuser()
    )  # fmt: skip
    for text in (place.bench_id, place.user, str(place.sites_path), *place.program):
        if not text.isprintable():  # a control character, or no UTF-8
            raise ConfigError(
                f"{text!r} cannot stand in a process manager's file: use a name that prints."
            )
    return place


def _program() -> tuple[str, ...]:
    # Not resolved: a virtual environment's Python is a link, and leads out of it.
    command = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "frappe-jobs")
    if os.access(command, os.X_OK):
        return (command,)
    return os.path.abspath(sys.executable), "-m", "frappe_jobs"


def of_this_shell(settings: Settings) -> Sequence[str]:
    """The variables of this shell that the settings come from: a process manager has them not."""
    return [
        variable(item.metadata["key"])
        for item in settings_table()
        if settings.origins.get(item.name) == variable(item.metadata["key"])
    ]
