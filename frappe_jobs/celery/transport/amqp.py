"""RabbitMQ: a message whose properties cannot be read is still a message.

amqp reads the properties as soon as their frame comes (texts that are no UTF-8, a time in the year
600,000, tables within tables): an error there ends the worker, or its connection, and the message
comes back.  What has no public interface: a frame of type 2 is class, weight and size of the body
in 12 bytes, then the properties, which ``decode_properties_basic`` reads; when that raises, the
frame handler has noted only the size.
"""

from __future__ import annotations

from struct import pack
from typing import Any

from amqp.method_framing import frame_handler
from amqp.serialization import decode_properties_basic

from frappe_jobs.celery.transport.unpack import Unpacking

#: The type of the frame that holds a message's properties, and where they begin in it.
HEADER_FRAME, PROPERTIES = 2, 12

#: What stands in for them: only a content type, which tells the worker.
UNREADABLE = "frappe_jobs/unreadable"
_STAND_IN = pack(">HB", 0x8000, len(UNREADABLE)) + UNREADABLE.encode()


def reading_all(connection: Any, callback: Any) -> Any:
    """amqp's frame handler, which puts a stand-in for properties that cannot be read."""
    handle = frame_handler(connection, callback)

    def on_frame(frame: tuple[int, int, Any]) -> Any:
        try:
            return handle(frame)
        except Exception:
            kind, channel, content = frame
            if kind != HEADER_FRAME or _is_readable(content):
                raise
            return handle((kind, channel, bytes(content[:PROPERTIES]) + _STAND_IN))

    return on_frame


def _is_readable(content: Any) -> bool:
    try:
        decode_properties_basic(content, PROPERTIES)
    except Exception:  # a decoder may raise anything
        return False
    return True


def guarded(transport: type[Any]) -> type[Any]:
    """The same transport; its connections accept any properties, its messages unpack to a limit."""
    connection: Any = transport.Connection
    channel: Any = connection.Channel
    message: Any = channel.Message

    class GuardedMessage(message, Unpacking):  # type: ignore[misc]
        pass

    class GuardedChannel(channel):  # type: ignore[misc]
        Message = GuardedMessage

        @property
        def unpacking(self) -> Any:
            return self.connection.unpacking

    class GuardedConnection(connection):  # type: ignore[misc]
        Channel = GuardedChannel

        def __init__(self, *arguments: Any, unpacking: Any, **options: Any) -> None:
            super().__init__(*arguments, frame_handler=reading_all, **options)
            self.unpacking = unpacking

    class GuardedTransport(transport):  # type: ignore[misc]
        def Connection(self, **options: Any) -> Any:
            return GuardedConnection(unpacking=self.unpacking, **options)

    return GuardedTransport
