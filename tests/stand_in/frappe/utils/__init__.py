"""Frappe's utils, as far as they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class CallbackManager:
    """What waits for a commit."""

    def __init__(self) -> None:
        self._functions: deque[Callable[[], Any]] = deque()

    def add(self, function: Callable[[], Any]) -> None:
        self._functions.append(function)

    def run(self) -> None:
        while self._functions:
            self._functions.popleft()()
