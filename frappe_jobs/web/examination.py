"""The doctor in a process of its own: what it needs for very many jobs is given back at its end.

Nor do the pages wait for it, as they would for a thread that computes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.texts.finding import Finding

COMMAND = (sys.executable, "-m", "frappe_jobs", "doctor", "--format", "json")
#: Others on the machine go first.
NICE = 10


@dataclass(frozen=True)
class Found(Finding):
    """A finding, and whether it can be mended without risk to any job."""

    mendable: bool = False


class Examination:
    """Has the doctor look at a bench."""

    def __init__(self, sites_path: Path) -> None:
        self._environment = {**os.environ, "SITES_PATH": str(sites_path)}
        self._process: subprocess.Popen[str] | None = None

    def look(self) -> Sequence[Finding]:
        """What it finds, the worst first; raises FrappeJobsError."""
        with subprocess.Popen(
            COMMAND, env=self._environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            self._process = process
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            said, _ = process.communicate()
        self._process = None
        try:
            rows: list[dict[str, Any]] = json.loads(said)
        except ValueError:
            raise FrappeJobsError(
                "The doctor found nothing, not even that all is well: it broke off. The log of the "
                "pages has what it said."
            ) from None
        return [Found(**row) for row in rows]

    def end(self) -> None:
        """Nobody waits for it any more."""
        if process := self._process:
            process.kill()


def spent() -> float:
    """Seconds that such processes have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
