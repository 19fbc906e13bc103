"""Which process of a machine says that Redis is away, and which one that it is back: by a file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from frappe_jobs.embedded import FOLDER

NAME = "redis-away"


class Claim:
    """The file of a sites folder; it holds the incident."""

    def __init__(self, sites_path: Path) -> None:
        self._folder = sites_path / FOLDER
        self._file = self._folder / NAME

    def take(self, incident: str) -> str | None:
        """The incident for the first who asks; else None, as where nothing can be written."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with self._file.open("x") as file:
                file.write(incident)
        except OSError:
            return None
        return incident

    def end(self) -> str | None:
        """The incident that was said, for the first who asks after its end; else None."""
        if not self._file.exists():
            return None
        mine = self._file.with_name(f"{NAME}.{os.getpid()}")
        with suppress(OSError):
            self._file.rename(mine)  # only one of all processes can
            incident = mine.read_text()
            mine.unlink()
            return incident
        return None
