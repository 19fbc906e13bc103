"""Between its last job and its end a worker reads the results that are still arriving."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from inspect import isgenerator
from typing import Any

from celery import bootsteps


class FinishReading(bootsteps.StartStopStep):  # type: ignore[misc]
    """Read to their end the results that were arriving when the worker was told to stop.

    Celery 5.6 would take their middle for a beginning, lose them, and wait 30 s for the process
    that sent them (5.7 does as we do).  For a result that has come in part, Celery's loop has a
    generator as its pipe's reader in ``hub.readers``; no public interface tells.
    """

    #: Seconds that a process has to send the rest.
    timeout = 5.0

    requires = ("celery.worker.components:Pool",)  # so it is stopped before the pool

    def stop(self, worker: Any) -> None:
        hub = worker.hub
        if hub is None:  # a pool of threads
            return
        for fd, (reader, _) in [*hub.readers.items()]:
            if isgenerator(reader) and not _read_to_end(fd, reader, self.timeout):
                hub.remove_reader(fd)


def _read_to_end(fd: int, reader: Iterator[object], timeout: float) -> bool:
    """False if nothing more can come, or nothing came in time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            next(reader)
        except StopIteration:
            return True
        except (OSError, EOFError):
            return False
        poller.poll(100)  # milliseconds
    return False
