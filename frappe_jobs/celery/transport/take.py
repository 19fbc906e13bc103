"""Redis: one script chooses a worker's next message, and notes in the same step who holds it.

kombu pops a message, and notes afterwards that it holds it; a worker that is killed in between has
lost it.  Here the script does both, and the acknowledgements of jobs go with the next look, so that
a job costs its worker's parent one round trip.  A script cannot wait: after a look that found
nothing the worker waits for a bell, which whoever pushes rings, and looks again when it has heard
it or has waited for BELL seconds, as others may push without ringing.

Only this module uses these, which have no public interface in kombu (the same in 5.6 and 5.7):
``Channel._brpop_start`` asks for a message, and sets ``_in_poll`` and ``_brpop_sent_at``;
``_brpop_read`` reads the answer, and in 5.7 then calls ``_flush_brpop_reauth``;
``_queue_cycle`` knows the order of the queues; ``Transport._deliver`` passes a message on; what
``QoS.append`` and ``QoS.ack`` write: ``unacked_key`` and ``unacked_index_key``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import NoScriptError

from frappe_jobs.brokers.base import Broker
from frappe_jobs.brokers.turns import TAKE
from frappe_jobs.celery.transport.ahead import Ahead
from frappe_jobs.ledger.script import packed
from frappe_jobs.message import HEADER, Held

SHA = hashlib.sha1(TAKE.encode(), usedforsecurity=False).hexdigest()

#: What the tokens of taken messages begin with, and end in where one was asked for while another
#: runs.
TAKEN, AHEAD = "taken.", "+"

#: Seconds after which a worker looks again that was not rung for.
BELL = 0.5
#: The most acknowledgements that go with one look.
TOGETHER = 500


@dataclass(frozen=True)
class Take:
    """How a worker takes."""

    #: The hashes of what is paused, and of the sites' weights.
    paused_key: str
    weights_key: str
    #: Whether the sites take turns; else the first message in is the first out.
    is_fair: bool
    #: The queues, by their names on the broker, in which they do not.
    guests: frozenset[str] = frozenset()
    #: Whether the next message may be taken while a short job runs.
    is_ahead: bool = False


class Taking:
    """A mixin for kombu's channel; ``transport.take`` says how, or is None: as kombu does."""

    connection: Any  # kombu's name for the transport
    client: Any
    qos: Any
    global_keyprefix: str
    unacked_key: str
    unacked_index_key: str
    active_queues: Any
    _in_poll: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        #: The tokens of jobs that are done, for the next look.
        self._done: list[str] = []
        self._sent_done = 0
        #: What was asked for: the queues, in order, and the token of the answer.
        self._asked: tuple[list[str], str] = [], ""
        self._was_empty = self._waits_for_bell = False
        self._name, self._looks = uuid4().hex, 0
        super().__init__(*arguments, **options)

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self.connection.take is None:
            super()._brpop_start(timeout)  # type: ignore[misc]
            return
        queues: list[str] = self._queue_cycle.consume(  # type: ignore[attr-defined]
            len(self.active_queues)
        )
        if not queues:
            return
        connection = self.client.connection
        self._in_poll = connection
        self._brpop_sent_at = time.monotonic()
        self._looks += 1
        ahead = AHEAD if self.qos.holds_one else ""
        self._asked = list(queues), f"{TAKEN}{self._name}.{self._looks}{ahead}"
        commands = [self._look()]
        self._waits_for_bell = self._was_empty
        if self._was_empty:
            bells = [f"{self.global_keyprefix}{queue}:bell" for queue in queues]
            commands.insert(0, ("BLPOP", *bells, BELL))
        connection.send_packed_command([*map(packed, commands)])

    def _look(self) -> tuple[Any, ...]:
        take, prefix = self.connection.take, self.global_keyprefix
        queues, token = self._asked
        done = self._done[:TOGETHER]
        self._sent_done = len(done)
        keys = [
            prefix + self.unacked_key, prefix + self.unacked_index_key, take.paused_key,
            take.weights_key, *(prefix + queue for queue in queues),
        ]  # fmt: skip
        steps = [
            f"{self.sep}{step}" if step else ""  # type: ignore[attr-defined]
            for step in self.priority_steps  # type: ignore[attr-defined]
        ]
        fair = "".join("1" if take.is_fair and name not in take.guests else "0" for name in queues)
        arguments = [
            fair, time.time(), token, len(done), len(steps), len(queues), *steps,
            *queues, *done,
        ]  # fmt: skip
        return "EVALSHA", SHA, len(keys), *keys, *arguments

    def read_take(self, note: Callable[[str, bytes, str], None]) -> bool:
        """Read the answer to a look, and pass the message on; raises Empty if there is none.

        Calls ``note`` before with its queue, its bytes and its token.
        """
        client = self.client
        connection = client.connection
        try:
            try:
                if self._waits_for_bell:
                    client.parse_response(connection, "BLPOP")
                answer = client.parse_response(connection, "EVALSHA")
            except NoScriptError:
                with self.conn_or_acquire() as other:  # type: ignore[attr-defined]
                    other.script_load(TAKE)
                self._was_empty = False
                raise Empty from None
            except self.connection_errors:  # type: ignore[attr-defined]
                connection.disconnect()
                raise
            del self._done[: self._sent_done]
            self._was_empty = not answer
            if len(answer) < 2:
                raise Empty
            (queues, token), (place, raw) = self._asked, answer
            queue = queues[place - 1]
            if queue not in self.connection._callbacks:  # the worker serves it no longer
                self.qos.restore_by_tag(token)
                raise Empty
            note(queue, raw, token)
            self._queue_cycle.rotate(queue)  # type: ignore[attr-defined]
            self.connection._deliver(loads(bytes_to_str(raw)), queue)
            return True
        finally:
            self._in_poll = None
            if renew_login := getattr(self, "_flush_brpop_reauth", None):
                renew_login()


class HeldByToken:
    """A mixin for kombu's QoS: a message that the script took is noted as held already."""

    channel: Any
    prefetch_count: int
    _delivered: Any
    _dirty: Any

    @cached_property
    def ahead(self) -> Ahead:
        take = self.channel.connection.take
        return Ahead(is_wanted=take is not None and take.is_ahead)

    @property
    def holds_one(self) -> bool:
        """Whether it holds the one message that it may hold, so that another one waits for it."""
        return self.prefetch_count == 1 and len(self._delivered) - len(self._dirty) == 1

    def can_consume(self) -> bool:
        """kombu's answer, or whether to take ahead; what was asked for must be read in any case."""
        return super().can_consume() or (  # type: ignore[misc]
            self.holds_one
            and (
                bool(self.channel._in_poll) or not self.channel._was_empty and self.ahead.may_take()
            )
        )

    def append(self, message: Any, delivery_tag: str) -> None:
        if not self._delivered:
            self.ahead.began()
        if delivery_tag == self.channel.taken_token:
            virtual.QoS.append(self, message, delivery_tag)  # type: ignore[arg-type]
        else:
            super().append(message, delivery_tag)  # type: ignore[misc]

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; a job's message goes with the next look, as its record says its end."""
        message = self._delivered.get(delivery_tag)
        self.ahead.ended()
        if self.channel.connection.take is None or not _is_job(message):
            super().ack(delivery_tag)  # type: ignore[misc]
        else:
            self.channel._done.append(delivery_tag)
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[arg-type]

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put back what is not done, after what is done was acknowledged."""
        self.flush_done()
        super().restore_unacked_once(stderr)  # type: ignore[misc]

    def flush_done(self) -> None:
        """Acknowledge now what waits for the next look."""
        if done := self.channel._done[:]:
            with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
                pipe.zrem(self.channel.unacked_index_key, *done)
                pipe.hdel(self.channel.unacked_key, *done)
                pipe.execute()
            del self.channel._done[: len(done)]


def held(request: Any, broker: Broker) -> Held | None:
    """How the message of a Celery task that runs is held; None where no script took it."""
    token = (request.properties or {}).get("delivery_tag")
    if not isinstance(token, str) or not token.startswith(TAKEN):
        return None
    queue = str((request.delivery_info or {}).get("routing_key"))
    return broker.held(token, queue, is_ahead=token.endswith(AHEAD))


def is_ahead(message: Any) -> bool:
    """Whether a message was taken while another one ran."""
    tag = str(message.delivery_tag)
    return tag.startswith(TAKEN) and tag.endswith(AHEAD)


def _is_job(message: Any) -> bool:
    headers = getattr(message, "headers", None)
    return isinstance(headers, dict) and HEADER in headers
