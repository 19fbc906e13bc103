"""Frappe's own functions that start a worker, a pool or the scheduler start ours.

Frappe's gunicorn companion calls them in a fork of a process in which no site was opened yet.  So
they begin as Frappe's; once they have read the configuration, the names that they look up next are
these.  ``bench worker``, ``worker-pool`` and ``schedule`` are our own commands.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from frappe.utils import scheduler

#: As it is at this moment; what it returns is for whoever asks outside the scheduler's process.
#: Frappe 15 has none, and no companion that starts its scheduler.
SLEEP_DURATION = getattr(scheduler, "sleep_duration", None)
START_SCHEDULER = scheduler.start_scheduler.__code__


class Worker:
    """What Frappe's ``start_worker`` makes."""

    def __init__(self, queues: Sequence[str], **_: Any) -> None:
        self._queues = queues

    def work(
        self,
        *,
        burst: bool = False,
        logging_level: str = "",
        dequeue_strategy: Any = None,
        **_: Any,
    ) -> NoReturn:
        """Run our worker until it is told to stop."""
        strategy = str(getattr(dequeue_strategy, "value", dequeue_strategy) or "")
        turns = ["--strategy", strategy] if strategy in ("round_robin", "random") else []
        _serve("worker", *_common(self._queues, burst, logging_level), *turns)


class WorkerPool:
    """What Frappe's ``start_worker_pool`` makes."""

    def __init__(self, queues: Sequence[str], num_workers: int = 1, **_: Any) -> None:
        self._queues, self._number = queues, num_workers

    def start(self, *, burst: bool = False, logging_level: str = "", **_: Any) -> NoReturn:
        """Run our pool until it is told to stop."""
        common = _common(self._queues, burst, logging_level)
        _serve("worker-pool", *common, "--num-workers", str(self._number))


def sleep_duration(tick: int) -> Any:
    """Frappe's scheduler asks it before its first look, and becomes ours; else Frappe's answer."""
    is_scheduler = sys._getframe(1).f_code is START_SCHEDULER
    if is_scheduler and threading.current_thread() is threading.main_thread():
        _serve("schedule")
    return SLEEP_DURATION(tick) if SLEEP_DURATION else tick


def set_niceness() -> None:
    """Does nothing: our worker sets it itself, once."""


def _common(queues: Sequence[str], burst: bool, logging_level: str) -> list[str]:
    names = ",".join(name.rpartition(":")[2] for name in queues)
    quiet = ["--quiet"] if logging_level == "WARNING" else []
    return ["--queue", names, *quiet, *(["--burst"] if burst else [])]


def _serve(name: str, *arguments: str) -> NoReturn:
    """Be that command of the bench, and end with it.

    A companion is forked in the midst of gunicorn's manager.  An exit that Python carries upwards
    would have that one's ``finally`` remove the socket by which people command the manager.
    """
    commands = import_module("frappe_jobs.commands").commands
    command = next(one for one in commands if one.name == name)
    status: Any = 0
    try:
        command.main(args=[*arguments], prog_name=f"bench {name}")
    except SystemExit as ended:
        status = ended.code or 0
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status if isinstance(status, int) else 1)
