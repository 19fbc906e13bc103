"""A shell that ends what a worker's jobs have started, in case the worker's parent is killed.

The kernel then kills the worker's processes too, before they could do it.  So a shell waits beside
each worker for the end of a pipe that only the parent holds open.  It has a session of its own, so
a kill of the worker's group spares it.
"""

from __future__ import annotations

import logging
import os
import subprocess
from contextlib import suppress

logger = logging.getLogger(__name__)

#: It reads the ids of the worker's processes, each the leader of a group; it forgets empty groups.
SCRIPT = """
trap '' HUP INT QUIT TERM
groups=
while read -r line; do
  [ "$line" = end ] && exit
  left=
  for group in $groups; do kill -0 -"$group" && left="$left $group"; done
  groups="$left $line"
done
for group in $groups; do kill -9 -"$group"; done
"""

#: How it is called in a list of processes.
NAME = "guard of a frappe_jobs worker"

#: The pipe to it; the worker's processes close it when they begin.
_pipe: int | None = None


def begin() -> None:
    """Start it, before the worker's processes, which tell it their ids."""
    global _pipe
    reading, writing = os.pipe()
    try:
        subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, NAME],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={},
            cwd="/",
        ).returncode = 0  # we never wait for it, and Popen must not warn about that
    except OSError as error:
        os.close(writing)
        logger.warning("if this worker is killed, what its jobs have started goes on: %s", error)
    else:
        _pipe = writing
    finally:
        os.close(reading)


def enter() -> None:
    """Called in a process of the worker: have its group ended with the worker."""
    _tell(f"{os.getpid()}\n")


def leave() -> None:
    """Called when the worker ends normally: it has cleaned up itself."""
    _tell("end\n")


def _tell(line: str) -> None:
    global _pipe
    if _pipe is not None:
        with suppress(OSError):  # the shell was killed
            os.write(_pipe, line.encode())
        os.close(_pipe)
        _pipe = None
