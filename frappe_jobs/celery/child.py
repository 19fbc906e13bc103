"""A worker's process: it outlives a SIGTERM to all, but not its parent, and may have children.

honcho and systemd send SIGTERM to all processes.  The parent gets it too, and lets the others
finish.  Without their parent nothing would renew their jobs' leases.  Each leads a process group of
its own, as RQ's do: by the group we find what its job has started.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from billiard.pool import EX_RECYCLE
from billiard.process import current_process
from celery.signals import (
    task_prerun,
    worker_before_create_process,
    worker_process_init,
    worker_process_shutdown,
)

from frappe_jobs import runtime
from frappe_jobs.celery import guard, log_format
from frappe_jobs.celery.apps import BENCH_APPS
from frappe_jobs.celery.processes import Started, adopt_orphans
from frappe_jobs.celery.timeout import raise_timeout

#: From Linux's <sys/prctl.h>: which signal a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


#: Sent to all of a worker's processes: its parent knows what they mean.
OUTLIVED = (signal.SIGTERM, signal.SIGHUP)

#: multiprocessing's object for a program that was not forked.
program = multiprocessing.current_process()

#: Whether this is a process of a pool, and whether it ends before its next job.
_is_prefork = _is_spent = False


def share_memory(**_: object) -> None:
    """Before the first process is forked: what is there by now stays shared with all of them.

    The collector writes into each object that it looks at, so a whole collection would leave the
    parent and each process with a copy of their own.
    """
    worker_before_create_process.disconnect(share_memory)
    gc.collect()
    gc.freeze()


def begin(**_: object) -> None:
    """Be killed when the worker's parent dies, whatever runs here, and not by SIGTERM.

    A solo pool has no processes: Celery calls this in the worker itself, where it does nothing.
    """
    global _is_prefork
    if (parent := current_process()._parent_pid) is None:
        return
    _is_prefork = True
    log_format.forget()
    follow(parent, signal.SIGKILL)
    os.setpgid(0, 0)
    guard.enter()
    adopt_orphans()
    _let_it_have_children()
    _end_before_the_next_job_if_spent()
    _end_at_once()
    # From the start: billiard replaces any handler but SIG_IGN.
    for number in OUTLIVED:
        signal.signal(number, signal.SIG_IGN)


def _let_it_have_children() -> None:
    """Look to multiprocessing like a main program, except for its name.

    It sees billiard's process here, a daemon, which may have no children; and a process of
    billiard's cannot be handed to a child that is not forked.
    """
    program.name = current_process().name
    multiprocessing.process._current_process = program  # type: ignore[attr-defined]


def _end_before_the_next_job_if_spent() -> None:
    """Where ``--max-jobs`` ends it, too.

    A process that a job forked, and that returned from the job's method, also ends there.
    """
    loop, own_pid = current_process()._target, os.getpid()  # the loop is billiard's
    wait_for_job = loop.wait_for_job

    def wait() -> Any:
        if os.getpid() != own_pid:
            os._exit(1)
        if _is_spent:
            sys.exit(EX_RECYCLE)
        return wait_for_job()

    loop.wait_for_job = wait


def _end_at_once() -> None:
    """When this process has done all that it has to do.

    billiard would tell its parent, and sleep for a second in which that ends it by SIGTERM, which
    our processes outlive.  The parent notices in any case, and begins another one if need be.
    """
    loop = current_process()._target
    tell = loop.on_exit

    def end(pid: int, exitcode: int) -> None:
        try:
            tell(pid, exitcode)
        finally:
            os._exit(exitcode)

    loop.on_exit = end


def end_group(**_: object) -> None:
    """When this process ends, end what finished jobs have left in its group.

    Python ends a program's pools when it exits; billiard exits without that.
    """
    if _is_prefork:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def tell_what_is_settled(**_: object) -> None:
    """When this process ends, as no other one knows that what its jobs committed was sent."""
    for made in BENCH_APPS:
        runtime.of_sites_path(made).leave()


def leave_nothing() -> Callable[[], object]:
    """A function that kills whatever the job that begins now will have started.

    This process is then replaced after the job: a pool of processes in a module's variable would
    fail the next job that uses it.  In a worker without processes it does nothing: there several
    jobs may run at once.
    """
    if not _is_prefork:
        return lambda: None
    started = Started()

    def leave() -> None:
        global _is_spent
        if started.end():
            _is_spent = True

    return leave


def follow(parent: int, number: signal.Signals) -> None:
    """Have that signal sent to this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), number)
    else:
        threading.Thread(target=_watch, args=(parent, number), daemon=True, name="parent").start()


def _watch(parent: int, number: signal.Signals) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(1)
    os.kill(os.getpid(), number)


def take_signals(**_: object) -> None:
    """Before the first job: programs that a job starts inherit SIG_IGN, but not a function."""
    task_prerun.disconnect(take_signals)  # once is enough, and Celery's signals take time
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        return
    signal.signal(signal.SIGUSR1, raise_timeout)  # instead of billiard's handler
    own_pid = os.getpid()

    def outlive(number: int, _frame: object) -> None:
        if os.getpid() != own_pid:  # a process that the job forked has the default
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in OUTLIVED:
        signal.signal(number, outlive)


def connect() -> None:
    """Do this in the worker processes of this process's apps; called only in our workers."""
    worker_before_create_process.connect(share_memory)
    worker_process_init.connect(begin)
    worker_process_shutdown.connect(tell_what_is_settled)
    worker_process_shutdown.connect(end_group)
    task_prerun.connect(take_signals)
