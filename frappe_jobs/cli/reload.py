"""A command that is begun anew whenever its apps' code changes, for development."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from threading import Event

import click

#: Seconds between two looks at the files.
PAUSE = 0.5


def run_again_and_again(
    command: Sequence[str], environment: Mapping[str, str], code: Callable[[], object]
) -> int:
    """Run it in a process of its own, anew when ``code()`` gives something else.

    It is asked to stop as a worker is, so what runs there comes to its end.  If it ends by itself,
    as with an error in the code, the next change begins it again; when this process is told to
    stop, it ends with it.  Gives its exit status.
    """
    stop = Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        while True:
            seen = code()
            process = subprocess.Popen(command, env=environment, start_new_session=True)
            try:
                while not stop.wait(PAUSE) and code() == seen:
                    pass
            finally:
                process.terminate()
                status = process.wait()
            if stop.is_set():
                return status
            click.echo("The code has changed: begun anew.", err=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def this_command(flag: str) -> tuple[list[str], dict[str, str]]:
    """This process's own command line and environment, without the flag ``--reload``."""
    command = [sys.executable, *(one for one in sys.orig_argv[1:] if one != f"--{flag}")]
    ending = f"_{flag.upper()}"
    return command, {k: v for k, v in os.environ.items() if not k.endswith(ending)}
