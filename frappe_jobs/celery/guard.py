"""When a worker's parent is killed, somebody must end what its jobs have started.

Its processes are killed by the kernel then, and have no time for that.  So a shell waits beside
each worker, for the end of a pipe that the parent alone holds open.  It is in a session of its own:
who kills the worker's group does not mean it.
"""

from __future__ import annotations

import logging
import os
import subprocess
from contextlib import suppress

logger = logging.getLogger(__name__)

#: It reads the worker's processes, each the leader of a group, and forgets groups that are empty.
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

#: By which it is told in a list of processes.
NAME = "guard of a frappe_jobs worker"

#: The pipe to it, in the worker's parent and in its processes until they have begun.
_pipe: int | None = None


def begin() -> None:
    """Start it; before the worker's processes, which tell it who they are."""
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
        ).returncode = 0  # nobody waits for it, and nobody is to complain of that
    except OSError as error:
        os.close(writing)
        logger.warning(
            "should this worker be killed, what its jobs have started goes on: %s", error
        )
    else:
        _pipe = writing
    finally:
        os.close(reading)


def enter() -> None:
    """In one of the worker's processes: have its group ended with the worker."""
    _tell(f"{os.getpid()}\n")


def leave() -> None:
    """The worker ends as it should: it has seen to everything itself."""
    _tell("end\n")


def _tell(line: str) -> None:
    global _pipe
    if _pipe is not None:
        with suppress(OSError):  # somebody has ended it
            os.write(_pipe, line.encode())
        os.close(_pipe)
        _pipe = None
