"""The messages that this worker has taken and not finished."""

from __future__ import annotations

from typing import Any

from celery.worker import state
from celery.worker.request import Request

from frappe_jobs.message import HEADER, TASK, is_of_later_version


def running() -> list[Any]:
    """The requests of our task that run in this worker's processes."""
    while True:
        try:
            requests = list(state.active_requests)
            break
        except RuntimeError:  # the worker's own thread changed it meanwhile
            continue
    return [request for request in requests if request._type == TASK and request.worker_pid]


def is_idle(consumer: Any) -> bool:
    """Whether it holds no message: none runs, is about to run, or waits for its time (a retry)."""
    return not state.reserved_requests and not any(map(_waits, list(consumer.timer.queue)))


def _waits(event: Any) -> bool:
    entry = event.entry
    if entry.canceled or not entry.args or not isinstance(entry.args[0], Request):
        return False
    # A message that only a newer worker can read would make this worker wait for ever.
    return not is_of_later_version(entry.args[0]._request_dict.get(HEADER))
