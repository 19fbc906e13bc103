"""A worker's connection to its broker, which outlives what is no message of Celery's."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from kombu.connection import Connection

from frappe_jobs.celery.transport import amqp, redis


class Keep(Protocol):
    """Where a worker leaves what came in the place of a message."""

    def __call__(self, queue: str, reason: str, raw: bytes) -> None: ...


def guard(connection: Connection, keep: Keep, *, unpacked_limit: int, is_guest: bool) -> None:
    """Have a connection that is not open yet keep aside what kombu would end the worker over.

    Whichever transport its URL names, and again where it moves on to its next URL.
    """

    def create_transport() -> Any:
        transport = guarded(connection.get_transport_cls())(client=connection)
        transport.keep = keep
        transport.unpacking = unpacked_limit, is_guest
        return transport

    connection.create_transport = create_transport  # type: ignore[method-assign]


def losses(*errors: type[BaseException]) -> tuple[type[BaseException], ...]:
    """Those of a transport's errors that say that the connection is lost.

    kombu 5.7 counts any KeyError among Redis's; while a message is handled it is the message's.
    """
    return tuple(one for one in errors if not issubclass(one, LookupError))


@cache
def guarded(transport: type[Any]) -> type[Any]:
    """The same transport with channels that look at what they read."""
    if transport.driver_type == "redis":
        return redis.guarded(transport)
    if transport.driver_type == "amqp":
        return amqp.guarded(transport)
    return transport
