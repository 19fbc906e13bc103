"""For tests of apps that use frappe_jobs: wait for a condition, never for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_until(
    condition: Callable[[], Value], timeout: float = 5.0, *, interval: float = 0.02
) -> Value:
    """Return the condition's value as soon as it is true.

    Raises TimeoutError, with the value it had last, after so many seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not so within {timeout:g} s; it was {value!r} last.")
        time.sleep(interval)
    return value
