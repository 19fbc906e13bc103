"""How a worker stops: it finishes its running jobs, or hands them back.

Celery's own warm shutdown leaves its loop at once, and with it the timeouts of running jobs and the
broker's heartbeats.  So a worker that is told to stop takes nothing more, stays in its loop until
its jobs are done, and only then begins Celery's shutdown.

It ends ``TaskPool._pool``, which has no public interface, itself: Celery's ``TaskPool.on_stop``
waits half a second for a thread that keeps up a connection which is closed by then.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import threading
import time
from mmap import mmap
from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool
from celery.signals import worker_shutdown, worker_shutting_down
from celery.worker import state

from frappe_jobs.celery import guard
from frappe_jobs.celery.ahead import taken_ahead
from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.held import running
from frappe_jobs.celery.log_format import about_request
from frappe_jobs.celery.processes import adopt_orphans, end, pause_together, reap_orphans
from frappe_jobs.celery.step import ConsumerStep

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

#: Process managers send SIGTERM to a process and to its group: within these seconds it counts once.
TWICE = 1.0

#: Seconds between two looks whether the jobs are done.
INTERVAL = 0.2

#: Seconds between two looks for dead processes that jobs have left.
REAP = 10.0


HANDED_BACK = "%s is handed back: its time to finish is over"


class Stopping:
    """Whether, and how, this process was told to stop."""

    def __init__(self) -> None:
        self.told = False
        #: The processes are killed, and their jobs are put back into their queues.
        self.handing_back = False
        #: The worker is in its loop, and can wait there.
        self.in_loop = False
        self._told_at = 0.0
        self._read, self._write = -1, -1
        #: What can be read once it was told: it wakes the loop.
        self.word, self._wake = -1, -1
        #: One byte: 1 once it was told.
        self._shared: bytearray | mmap = bytearray(1)

    def share(self) -> None:
        """Have the processes that are forked from here on see whether it was told."""
        self._shared = mmap(-1, 1)

    def must_stop(self) -> bool:
        """Whether this worker, or the one whose process this is, was told to stop."""
        return self._shared[0] == 1

    def listen(self, grace: float | None) -> None:
        """Handle the signals; ``grace`` is the seconds from the first signal to handing back."""
        self._read, self._write = os.pipe()
        self.word, self._wake = os.pipe()
        own_pid = os.getpid()

        def on_signal(number: int, _frame: object) -> None:
            if os.getpid() == own_pid:  # a process that was just forked still has this handler
                self._on_signal(number)

        for number in SIGNALS:
            signal.signal(number, on_signal)
        threading.Thread(target=self._wait, args=(grace,), daemon=True, name="stopping").start()

    def _on_signal(self, number: int) -> None:
        now = time.monotonic()
        if not self.told:
            self.told, self._told_at = True, now
            self._shared[0] = 1
            os.write(self._wake, b"1")
            os.write(self._write, b"1")
            if not self.in_loop:
                state.should_stop = 0
        elif now - self._told_at > TWICE:
            os.write(self._write, b"2")
        if number == signal.SIGQUIT:
            os.write(self._write, b"2")

    def _wait(self, grace: float | None) -> None:
        os.read(self._read, 1)
        logger.info("told to stop: running jobs finish; a second signal hands them back")
        select.select([self._read], [], [], grace)
        self.handing_back = True
        state.should_stop = 0
        pause = threading.Event()
        while not pause.wait(INTERVAL):  # until this process ends
            for request in running():
                if end(request.worker_pid, request.time_start):
                    with about_request(request):
                        logger.warning(HANDED_BACK, request.name)


stopping = Stopping()


class TakeSignals(bootsteps.StartStopStep):  # type: ignore[misc]
    """Handle SIGTERM, SIGINT and SIGQUIT instead of Celery; only in pools of processes.

    Also be the parent that those processes' jobs need.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.enabled = issubclass(worker.pool_cls, TaskPool)
        if self.enabled:
            stopping.share()
            guard.begin()
            worker_shutdown.connect(lambda **_: guard.leave(), weak=False)

    def start(self, worker: Any) -> None:
        adopt_orphans()
        pause_together()
        stopping.listen(runtime_of(worker.app).settings.stop_grace or None)

    def stop(self, worker: Any) -> None:
        """End the processes before Celery does, if none has anything to do."""
        if not state.reserved_requests and (processes := worker.pool._pool):
            processes.close()
            processes.join()
            worker.pool._pool = None
        gc.freeze()  # Python looks through all objects as it ends


class Drain(ConsumerStep):
    """Once told to stop: take nothing more, and begin Celery's shutdown when the jobs are done."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = isinstance(consumer.pool, TaskPool)
        self._drains = False

    def start(self, consumer: Any) -> None:
        if stopping.told:  # while the broker was away; we take nothing more from it
            state.should_stop = 0
            return
        stopping.in_loop = True
        consumer.timer.call_repeatedly(INTERVAL, self._look, (consumer,))
        consumer.timer.call_repeatedly(REAP, reap_orphans)
        if consumer.hub:
            consumer.hub.add_reader(stopping.word, self._hear, consumer)

    def stop(self, consumer: Any) -> None:
        stopping.in_loop = False

    def _hear(self, consumer: Any) -> None:
        consumer.hub.remove_reader(stopping.word)
        self._look(consumer)

    def _look(self, consumer: Any) -> None:
        if not stopping.told:
            return
        if not self._drains:
            self._drains = True
            worker_shutting_down.send(
                sender=consumer.hostname, sig="SIGTERM", how="Warm", exitcode=0
            )
            consumer.task_consumer.cancel()
            taken_ahead.give_back()
        if not state.reserved_requests:
            state.should_stop = 0
