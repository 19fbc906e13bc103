"""SIGHUP: logrotate's word to open the log file anew, or a terminal that has closed.

Celery would start the worker anew, in the middle of its jobs.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any

from celery import bootsteps


def take() -> None:
    """Handle SIGHUP in this process: where its input is a terminal it is told to stop.

    Otherwise nothing is to be done: before each line the log looks whether its file is still there.
    """

    def on_hangup(number: int, _frame: object) -> None:
        if is_terminal and os.getpid() == own_pid:  # one that was just forked still has this
            os.kill(own_pid, signal.SIGTERM)

    own_pid, is_terminal = os.getpid(), _is_terminal()
    signal.signal(signal.SIGHUP, on_hangup)


def _is_terminal() -> bool:
    with suppress(AttributeError, OSError, ValueError):  # closed, or none at all
        return sys.stdin.isatty()
    return False


class TakeHangup(bootsteps.StartStopStep):  # type: ignore[misc]
    """Handle SIGHUP instead of Celery, in a worker of any pool."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        take()
