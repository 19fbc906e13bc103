"""For tests of apps that use frappe_jobs: wait for a condition, never for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


#: Seconds of processor time that a look at the machine's slowness takes.
SAMPLE = 0.03

#: After a look that took processor time, this many times as long passes until the next.
REST = 10
#: Seconds that it is at most.
LONGEST_REST = 0.25

#: A machine that is slower still counts as broken.
SLOWEST = 20.0


def wait_until(
    condition: Callable[[], Value], timeout: float = 5.0, *, interval: float = 0.02
) -> Value:
    """Return the condition's value as soon as it is true.

    Raises TimeoutError, with the last value, after that many seconds on an idle machine; a busy
    machine that is n times slower has n times longer. A condition that takes much processor time
    is asked less often, so that what is waited for has it.
    """
    began = time.monotonic()
    slower, next_look = 1.0, timeout / 2
    while True:
        used = time.process_time()
        if value := condition():
            return value
        used = time.process_time() - used
        waited = time.monotonic() - began
        if waited > next_look:
            slower = max(slower, slowness())
            next_look = waited + timeout / 2
        if waited > timeout * slower:
            raise TimeoutError(f"{value!r} after {waited:.1f} s is not what was waited for.")
        time.sleep(max(interval, min(REST * used, LONGEST_REST)))


def slowness() -> float:
    """How many times longer a computation takes here and now than on an idle machine; 1 to 20."""
    began, used = time.perf_counter(), time.thread_time()
    while time.thread_time() - used < SAMPLE:
        pass
    return min(max(1.0, (time.perf_counter() - began) / SAMPLE), SLOWEST)
