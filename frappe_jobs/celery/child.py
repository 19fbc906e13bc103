"""A worker's process: it outlives a SIGTERM to all, but not its parent, and may have children.

honcho and systemd send SIGTERM to all.  The parent is told as well, and lets its processes finish.
A parent that was killed can do nothing for them: nobody would renew the lease of what they run.
Each is the leader of a group of its own, as RQ's are: what a job starts is told apart by that.
"""

from __future__ import annotations

import ctypes
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
from celery.signals import task_prerun, worker_process_init, worker_process_shutdown

from frappe_jobs.celery import guard
from frappe_jobs.celery.processes import Started, adopt_orphans
from frappe_jobs.celery.timeout import raise_timeout

#: From Linux's <sys/prctl.h>: which signal a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


#: As multiprocessing knows a program that nobody forked.
program = multiprocessing.current_process()

#: Whether this is a process of a pool; whether it ends before its next job.
_is_prefork = _is_spent = False


def begin(**_: object) -> None:
    """Be killed when the worker's parent is, whatever runs here, and not by SIGTERM.

    A solo pool has no process of its own: Celery calls this in the worker itself, which stays as
    it is.
    """
    global _is_prefork
    if (parent := current_process()._parent_pid) is None:
        return
    _is_prefork = True
    follow(parent, signal.SIGKILL)
    os.setpgid(0, 0)
    guard.enter()
    adopt_orphans()
    _let_it_have_children()
    _end_before_the_next_job_if_spent()
    # From its birth: billiard would put its own handler in the place of any but this one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _let_it_have_children() -> None:
    """Be to multiprocessing what the program was that it was forked from, but for its name.

    billiard's process, which it is there as well, is a daemon: that may have no children, and none
    of billiard's can be handed to one that is not forked.
    """
    program.name = current_process().name
    multiprocessing.process._current_process = program  # type: ignore[attr-defined]


def _end_before_the_next_job_if_spent() -> None:
    """As at ``--max-jobs``, which ends it in the same place.

    Nor does a process get there that a job has forked, and that returned from the job's method.
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


def end_group(**_: object) -> None:
    """As this process ends: have what finished jobs have left in its group end, too.

    Python ends a program's pools at its end; billiard leaves without that.
    """
    if _is_prefork:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def leave_nothing() -> Callable[[], object]:
    """What ends, when it is called, all that the job has started which begins now.

    This process is replaced after the job then: a pool of processes in a module's variable would
    fail whatever job used it next.  In a worker without processes of its own it does nothing: there
    several jobs may run at once.
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
    """Have this process sent that signal when that parent of it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it was quicker
            os.kill(os.getpid(), number)
    else:
        threading.Thread(target=_watch, args=(parent, number), daemon=True, name="parent").start()


def _watch(parent: int, number: signal.Signals) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(1)
    os.kill(os.getpid(), number)


def take_signals(**_: object) -> None:
    """From its first job: programs that a job starts would inherit SIG_IGN, but not a function."""
    task_prerun.disconnect(take_signals)  # once is enough, and Celery's signals take their time
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        return
    signal.signal(signal.SIGUSR1, raise_timeout)  # in the place of billiard's
    own_pid = os.getpid()

    def on_sigterm(number: int, _frame: object) -> None:
        if os.getpid() != own_pid:  # a process that the job forked: to it nothing is special
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, on_sigterm)


def connect() -> None:
    """Do so in the workers of this process's apps; called for ours alone."""
    worker_process_init.connect(begin)
    worker_process_shutdown.connect(end_group)
    task_prerun.connect(take_signals)
