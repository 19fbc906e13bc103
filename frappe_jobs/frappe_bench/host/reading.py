"""How what belongs to a host reads another site than the open one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

Value = TypeVar("Value")


class Read(Protocol):
    """The host's ``read`` or ``on``: what that gives with the site open."""

    def __call__(self, site: str, read: Callable[[], Value], /) -> Value: ...
