"""A worker's process outlives a SIGTERM that goes to the whole process group.

honcho and systemd send it to all.  The parent is told as well, and lets its processes finish.
"""

from __future__ import annotations

import os
import signal

from celery.signals import task_prerun, worker_process_init


def ignore_sigterm(**_: object) -> None:
    """From its birth: billiard would put its own handler in the place of any but this one."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def outlive_sigterm(**_: object) -> None:
    """From its first job: programs that a job starts would inherit SIG_IGN, but not a function."""
    task_prerun.disconnect(outlive_sigterm)  # once is enough, and Celery's signals take their time
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        return
    own_pid = os.getpid()

    def on_sigterm(number: int, _frame: object) -> None:
        if os.getpid() != own_pid:  # a process that the job forked: to it nothing is special
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, on_sigterm)


def connect() -> None:
    """Do so in the workers of this process's apps; called for ours alone."""
    worker_process_init.connect(ignore_sigterm)
    task_prerun.connect(outlive_sigterm)
