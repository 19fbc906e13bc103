"""What a worker does between its last job and its end."""

from __future__ import annotations

import select
import time
from collections.abc import Generator
from inspect import isgenerator
from typing import Any

from celery import bootsteps

#: Seconds that a process has to send the rest of a result, in all and at a time.
REST_TIMEOUT, REST_INTERVAL = 5.0, 0.1


class FinishReading(bootsteps.StartStopStep):  # type: ignore[misc]
    """Read the results to their end that were arriving when the worker was told to stop.

    Celery 5.6 would take their middle for a beginning, lose them, and wait 30 s for the process
    that sent them (5.7 does as we do).  Celery's loop keeps a result that has come in part as a
    generator in the place of its pipe's reader, ``hub.readers``; no public interface tells.
    """

    requires = ("celery.worker.components:Pool",)  # so it is stopped before the pool is

    def stop(self, worker: Any) -> None:
        hub = worker.hub
        if hub is None:  # a pool of threads
            return
        for fd, (reader, _) in [*hub.readers.items()]:
            if isgenerator(reader) and not _read_to_end(fd, reader):
                hub.remove_reader(fd)


def _read_to_end(fd: int, reader: Generator[None, None, None]) -> bool:
    """False if nothing more can come, or nothing came in time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    deadline = time.monotonic() + REST_TIMEOUT
    while time.monotonic() < deadline:
        try:
            next(reader)
        except StopIteration:
            return True
        except (OSError, EOFError):
            return False
        poller.poll(REST_INTERVAL * 1000)
    return False
