"""The doctor in a process of its own: what it needs for very many jobs is given back at its end.

Nor do the pages wait for it, as they would for a thread that computes.
"""

from __future__ import annotations

import atexit
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


#: Those that look now.
_looking: set[subprocess.Popen[str]] = set()


def look(sites_path: Path) -> Sequence[Finding]:
    """What the doctor finds of that bench, the worst first; raises FrappeJobsError."""
    environment = {**os.environ, "SITES_PATH": str(sites_path)}
    with subprocess.Popen(
        COMMAND, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        _looking.add(process)
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        said, _ = process.communicate()
    _looking.discard(process)
    try:
        rows: list[dict[str, Any]] = json.loads(said)
    except ValueError:
        raise FrappeJobsError(
            "The doctor found nothing, not even that all is well: it broke off. The log of the "
            "pages has what it said."
        ) from None
    return [Found(**row) for row in rows]


@atexit.register
def end_all() -> None:
    """Nobody waits for them any more."""
    for process in [*_looking]:
        process.kill()


def spent() -> float:
    """Seconds that such processes have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
