"""A worker's process: it outlives a SIGTERM to the process group, but not its parent.

honcho and systemd send SIGTERM to all.  The parent is told as well, and lets its processes finish.
A parent that was killed can do nothing for them: nobody would renew the lease of what they run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

from billiard.process import current_process
from celery.signals import task_prerun, worker_process_init

from frappe_jobs.celery.timeout import raise_timeout

#: From Linux's <sys/prctl.h>: which signal a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


def send_signal(pid: int, number: signal.Signals) -> bool:
    """False if that process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def begin(**_: object) -> None:
    """Be killed when the worker's parent is, whatever runs here, and not by SIGTERM.

    A solo pool has no process of its own: Celery calls this in the worker itself, which stays as
    it is.
    """
    if (parent := current_process()._parent_pid) is None:
        return
    follow(parent, signal.SIGKILL)
    # From its birth: billiard would put its own handler in the place of any but this one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


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
    task_prerun.connect(take_signals)
