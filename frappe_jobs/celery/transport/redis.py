"""Redis: what lies in a queue's list, or is published to workers, and is no message, is kept aside.

kombu takes an item away and then believes it: an item that is no envelope of its own ends the
worker, and is lost.  Only this module uses these, which have no public interface in kombu (the same
in 5.6 and 5.7): ``Channel.client`` and ``Channel.subclient``, on which it calls ``parse_response``
for what BRPOP and subscriptions bring; ``_brpop_read`` and ``_receive_one``, which read an item
each, are called by its event loop and may raise Empty; ``Transport._callbacks``, by which they pass
it on, for each queue; the form of the envelope; ``QoS._delivered``, what this worker holds by its
tags; ``QoS.restore_by_tag``, which takes a dead worker's message back.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from queue import Empty
from typing import Any
from uuid import uuid4

import redis
from kombu.exceptions import InconsistencyError
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from frappe_jobs.celery.transport.take import HeldByToken, Taking
from frappe_jobs.celery.transport.unpack import Unpacking

#: Stands in the name of a list before its priority.
SEPARATOR = "\x06"

#: The parts of an envelope that kombu reads, and the types of each.
PARTS: dict[str, tuple[type, ...]] = {
    "body": (str, type(None)),
    "content-type": (str, type(None)),
    "content-encoding": (str, type(None)),
    "headers": (dict, type(None)),
    "properties": (dict,),
}
PROPERTIES: dict[str, tuple[type, ...]] = {
    "delivery_tag": (str,),
    "delivery_info": (dict,),
    "priority": (int, type(None)),
    "body_encoding": (str, type(None)),
    "reply_to": (str, type(None)),
    "correlation_id": (str, type(None)),
}
PLACE: dict[str, tuple[type, ...]] = {"exchange": (str,), "routing_key": (str, type(None))}

#: kombu's encodings of a body.
ENCODINGS = (None, "", "utf-8", "base64")


def fault_of(envelope: Any) -> str | None:
    """What would make kombu fail in what it read; None if it is an envelope of kombu's."""
    if not isinstance(envelope, dict):
        return f"{type(envelope).__name__}"
    fault = _wrong_part(envelope, PARTS) or _wrong_part(envelope["properties"], PROPERTIES)
    if fault := fault or _wrong_part(envelope["properties"]["delivery_info"], PLACE):
        return fault
    encoding = envelope["properties"].get("body_encoding")
    if encoding not in ENCODINGS:
        return f"'body_encoding' is {encoding!r:.100}"
    return None


def _wrong_part(value: Any, parts: dict[str, tuple[type, ...]]) -> str | None:
    for name, kinds in parts.items():
        part = value.get(name)
        if not isinstance(part, kinds) or isinstance(part, bool):
            return f"{name!r} is {type(part).__name__}"
    return None


class Guarded(Taking):
    """A mixin for kombu's channel; ``transport.keep`` gets what is no message."""

    #: What was read last: its place and bytes, and its tag once it is known to be an envelope.
    _taken: tuple[str, bytes] | None = None
    _tag: str | None = None
    _token: str | None = None
    basic_ack: Any

    @property
    def unpacking(self) -> Any:
        return self.connection.unpacking

    @cached_property
    def client(self) -> Any:
        client = self._create_client(asynchronous=True)  # type: ignore[attr-defined]
        parse = client.parse_response

        def parse_response(connection: Any, command: str, **options: Any) -> Any:
            answer = parse(connection, command, **options)
            if command == "BRPOP" and answer:
                self._taken = bytes_to_str(answer[0]), answer[1]
            return answer

        client.parse_response = parse_response
        return client

    @property
    def taken_token(self) -> str | None:
        """The token of the message that is passed on now, if the script has noted it as held."""
        return self._token

    @cached_property
    def subclient(self) -> Any:
        subclient = self._create_client(asynchronous=True).pubsub()  # type: ignore[attr-defined]
        parse = subclient.parse_response

        def parse_response(*arguments: Any, **options: Any) -> Any:
            answer = parse(*arguments, **options)
            if not isinstance(answer, (list, tuple)) or len(answer) < 3:
                return answer
            kind, channel, content = bytes_to_str(answer[0]), answer[-2], answer[-1]
            if not kind.endswith("message"):
                return answer
            self._taken = bytes_to_str(channel), content
            try:
                loads(bytes_to_str(content))
            except Exception as error:  # kombu would only log it
                return self._leave(f"{type(error).__name__}: {error}")
            return answer

        subclient.parse_response = parse_response
        return subclient

    def _queue_bind(self, exchange: str, routing_key: str, pattern: Any, queue: str) -> None:
        """Bind a queue; of a fanout's without a line in Redis, which a killed worker would leave.

        Nothing reads it: a fanout's messages go by PUBLISH to the subscribers.
        """
        if self.typeof(exchange).type == "fanout":  # type: ignore[attr-defined]
            topic = exchange, routing_key.replace("#", "*")
            self._fanout_queues[queue] = topic  # type: ignore[attr-defined]
        else:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]

    def _refresh_bindings(self, queues: Iterable[str]) -> None:
        """The same a second later: kombu 5.7 writes again the bindings of queues that expire."""
        unread: dict[str, Any] = self._fanout_queues  # type: ignore[attr-defined]
        bound = [queue for queue in queues if queue not in unread]
        super()._refresh_bindings(bound)  # type: ignore[misc]

    def _brpop_read(self, **options: Any) -> Any:
        if self.connection.take is None:
            return self._read(super()._brpop_read, **options)  # type: ignore[misc]
        return self._read(self.read_take, self._note_take)

    def _note_take(self, queue: str, raw: bytes, token: str) -> None:
        self._taken, self._token = (queue, raw), token

    def _receive_one(self, client: Any) -> Any:
        return self._read(super()._receive_one, client)  # type: ignore[misc]

    def _read(self, read: Any, *arguments: Any, **options: Any) -> Any:
        """Read; whatever an item makes kombu raise but a lost connection, the worker goes on."""
        self._taken = self._tag = self._token = None
        try:
            return read(*arguments, **options)
        except (Empty, redis.RedisError, OSError, InconsistencyError):
            raise
        except Exception as error:
            if self._taken is None:  # nothing was read, so it is no item's fault
                raise
            self._leave(f"{type(error).__name__}: {error}")
            tag = self._token or self._tag
            if tag == self._token or tag in self.qos._delivered:
                self.basic_ack(tag)
            raise Empty from None

    def _leave(self, fault: str) -> None:
        place, item = self._taken or ("", b"")
        self.connection.keep(place.partition(SEPARATOR)[0], f"is no message: {fault}", item)

    def basic_consume(self, queue: str, *arguments: Any, **options: Any) -> Any:
        answer = super().basic_consume(queue, *arguments, **options)  # type: ignore[misc]
        deliver = self.connection._callbacks[queue]

        def look_and_deliver(raw: Any) -> Any:
            if fault := fault_of(raw):
                self._leave(fault)
                return self.basic_ack(self._token) if self._token else None
            # A tag that is in use would take another message's place among what is held.
            raw["properties"]["delivery_tag"] = self._tag = self._token or str(uuid4())
            return deliver(raw)

        self.connection._callbacks[queue] = look_and_deliver
        return answer


def guarded(transport: type[Any]) -> type[Any]:
    """The same transport, with guarded channels."""
    channel: Any = transport.Channel
    message: Any = channel.Message
    qos: Any = channel.QoS

    class GuardedMessage(message, Unpacking):  # type: ignore[misc]
        pass

    class GuardedQoS(HeldByToken, qos):  # type: ignore[misc]
        def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
            """Put a message back; what is no message is kept aside, out of the others' way."""
            try:
                super().restore_by_tag(tag, client=client, leftmost=leftmost)
            except (redis.RedisError, OSError, InconsistencyError):
                raise
            except Exception as error:
                with self.channel.conn_or_acquire(client) as server:
                    held = server.hget(self.unacked_key, tag) or b""
                self.channel.connection.keep(
                    str(self.unacked_key), f"is no message: {type(error).__name__}: {error}", held
                )
                self._remove_from_indices(tag).execute()

    class GuardedChannel(Guarded, channel):  # type: ignore[misc]
        Message = GuardedMessage
        QoS = GuardedQoS

    class GuardedTransport(transport):  # type: ignore[misc]
        Channel = GuardedChannel

    return GuardedTransport
