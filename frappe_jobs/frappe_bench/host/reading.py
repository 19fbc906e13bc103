"""How a host's adapters read a site that need not be the open one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

Value = TypeVar("Value")


class Read(Protocol):
    """The host's ``read`` or ``on``: gives what ``read()`` gives with the site open."""

    def __call__(self, site: str, read: Callable[[], Value], /) -> Value: ...
