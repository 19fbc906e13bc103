"""Celery's remote control for a single command, on a given connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery.app.control
import kombu.pidbox
from kombu.messaging import Producer


class OneTry(Producer):
    """A producer that tries once, where kombu's mailbox would try for ever."""

    def publish(self, *arguments: Any, retry: bool = False, **options: Any) -> Any:
        publish: Any = super().publish
        return publish(*arguments, **options)


class Mailbox(kombu.pidbox.Mailbox):
    """kombu's mailbox, but it uses that connection, not a pool's, which may wait for ever."""

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        make: Any = OneTry
        yield producer or make(channel, auto_declare=False)


class Control(celery.app.control.Control):  # type: ignore[misc]
    """Celery's remote control, with that mailbox."""

    Mailbox = Mailbox
