"""What this worker has taken and not ended yet."""

from __future__ import annotations

from typing import Any

from celery.worker import state
from celery.worker.request import Request

from frappe_jobs.message import HEADER, TASK, is_of_later_version


def running() -> list[Any]:
    """The requests of ours that run in processes of this worker."""
    while True:
        try:
            requests = list(state.active_requests)
            break
        except RuntimeError:  # it changed meanwhile, in the worker's own thread
            continue
    return [one for one in requests if one._type == TASK and one.worker_pid]


def is_idle(consumer: Any) -> bool:
    """Whether it holds no message: none runs, is about to, or waits for its time (a retry)."""
    return not state.reserved_requests and not any(map(_waits, list(consumer.timer.queue)))


def _waits(event: Any) -> bool:
    entry = event.entry
    if entry.canceled or not entry.args or not isinstance(entry.args[0], Request):
        return False
    # One that only a newer worker can read would keep this one waiting for ever.
    return not is_of_later_version(entry.args[0]._request_dict.get(HEADER))
