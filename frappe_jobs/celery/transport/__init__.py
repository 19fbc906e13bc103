"""A worker's connection to its broker, which survives data that is no message of Celery's."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from kombu.connection import Connection

from frappe_jobs.celery.transport import amqp, redis
from frappe_jobs.celery.transport.take import Take


class Keep(Protocol):
    """Keeps aside what came instead of a message."""

    def __call__(self, queue: str, reason: str, raw: bytes) -> None: ...


def guard(
    connection: Connection,
    keep: Keep,
    *,
    unpacked_limit: int,
    is_guest: bool,
    take: Take | None = None,
) -> None:
    """Have a connection that is not open yet keep aside what would make kombu end the worker.

    With any transport that its URL names, also after it moves on to its next URL.  On Redis
    messages are taken as ``take`` says; None: as kombu does.
    """

    def create_transport() -> Any:
        transport = guarded(connection.get_transport_cls())(client=connection)
        transport.keep = keep
        transport.unpacking = unpacked_limit, is_guest
        transport.take = take
        return transport

    connection.create_transport = create_transport  # type: ignore[method-assign]


def losses(*errors: type[BaseException]) -> tuple[type[BaseException], ...]:
    """The transport's errors that mean that the connection is lost.

    kombu 5.7 counts any KeyError among Redis's; while a message is handled, that is the message's.
    """
    return tuple(error for error in errors if not issubclass(error, LookupError))


@cache
def guarded(transport: type[Any]) -> type[Any]:
    """The same transport with channels that check what they read."""
    if transport.driver_type == "redis":
        return redis.guarded(transport)
    if transport.driver_type == "amqp":
        return amqp.guarded(transport)
    return transport
