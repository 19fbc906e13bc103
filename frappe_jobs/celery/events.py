"""A worker's Celery events, for watchers such as Flower: the worker never waits to send them."""

from __future__ import annotations

from typing import Any

import celery.app.events
from celery.events.dispatcher import EventDispatcher

from frappe_jobs.celery.publisher import Publisher


class ByThread:
    """Stands for the connection on which Celery's main loop would send its events."""

    supports_heartbeats = False

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher

    def __bool__(self) -> bool:  # False: there is nothing to close or to watch
        return False


class Dispatcher(EventDispatcher):  # type: ignore[misc]
    """Celery's dispatcher, which hands events to the publisher's thread."""

    def _publish(self, event: Any, producer: Any, routing_key: str, **options: Any) -> None:
        if not isinstance(self.connection, ByThread):
            super()._publish(event, producer, routing_key, **options)
            return
        # Celery 5.6 empties a list of events once this has returned.
        whole = [*event] if isinstance(event, list) else event
        self.connection.publisher.put(
            lambda producer: producer.publish(
                whole, routing_key=routing_key, exchange=self.exchange.name,
                declare=[self.exchange], serializer=self.serializer, headers=self.headers,
                delivery_mode=self.delivery_mode,
            )
        )  # fmt: skip


class Events(celery.app.events.Events):  # type: ignore[misc]
    """Celery's events, with that dispatcher."""

    dispatcher_cls = Dispatcher
