"""Celery's remote control for one question or order, on a connection that is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery.app.control
import kombu.pidbox
from kombu.messaging import Producer


class OneTry(Producer):
    """kombu's mailbox has a message sent again and again, for ever if need be."""

    def publish(self, *arguments: Any, retry: bool = False, **options: Any) -> Any:
        publish: Any = super().publish
        return publish(*arguments, **options)


class Mailbox(kombu.pidbox.Mailbox):
    """kombu's, which sends by that connection, not by one of a pool that may wait for ever."""

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        make: Any = OneTry
        yield producer or make(channel, auto_declare=False)


class Control(celery.app.control.Control):  # type: ignore[misc]
    """Celery's, with that mailbox."""

    Mailbox = Mailbox
