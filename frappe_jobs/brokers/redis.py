"""Redis as the broker.

Only this module uses these, which have no public interface in kombu: the form of a pushed message,
the name of the list that holds a priority's messages (``Channel._q_for_pri``), how many there are
(``Channel._size``), that they are pushed at its left end and popped at its right, that a waiting
message is JSON with its Celery headers inside, and where the messages are that a worker holds
(``unacked_key``).
"""

from __future__ import annotations

import base64
import json
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from itertools import chain
from typing import Any
from uuid import uuid4

import celery.app.base
import celery.app.task
import kombu.messaging
from celery import Celery, Task
from celery.signals import after_task_publish, before_task_publish
from celery.utils.nodenames import anon_nodename
from kombu.entity import Queue
from kombu.transport.redis import Channel

from frappe_jobs.brokers.base import BrokerServer, Recorder
from frappe_jobs.brokers.kombu import LET_OURS, KombuBroker
from frappe_jobs.brokers.turns import Turns
from frappe_jobs.errors import BrokerError, BrokerUnavailable
from frappe_jobs.ledger.connection import connect
from frappe_jobs.message import HEADER, TASK, Held, Message, Sending, to_json
from frappe_jobs.servers.in_force import SettingsInForce

#: How many messages are searched at a time.
CHUNK = 500
#: How many are searched again, as they may have moved on since the last look.
OVERLAP = 100
#: How many chunks of the longest waiting messages are searched before all messages are.
LONGEST = 4

#: How many messages a step of ``discard`` looks at; Redis does nothing else meanwhile.
WINDOW = 200
#: Seconds after which the ids of an interrupted search are gone.
DISCARD_TTL = 600

# wanted: a set of message ids; filed: counts what is filed (absent: this list is the inbox's)
# first, last: the places of the list that are looked at
# gives how many messages are there, then the ids of those that were in the set, and are removed
DISCARD = """
local list, wanted, filed = unpack(KEYS)
local first, last = unpack(ARGV)
local found = redis.call('LRANGE', list, first, last)
local answer = {#found}
for n, raw in ipairs(found) do
  local readable, message = pcall(cjson.decode, raw)
  local headers = readable and type(message) == 'table' and message.headers
  local id = type(headers) == 'table' and headers.id
  if type(id) == 'string' and redis.call('SISMEMBER', wanted, id) == 1 then
    redis.call('LSET', list, first + n - 1, wanted)  -- a text that no message has
    table.insert(answer, id)
  end
end
if #answer > 1 then
  redis.call('LREM', list, #answer - 1, wanted)
  if filed then redis.call('DECRBY', filed, #answer - 1) end
end
return answer
"""

#: The rest of a Celery message's body: nothing follows the job.
EMBED = '{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'

#: The app's settings that may ask for more in a message than we make.
SETTINGS = ("task_always_eager", "task_send_sent_event", "task_compression", "task_protocol")

#: Gaps in a message's JSON that are filled with JSON, not with text inside quotes.
GAPS = {"shadow": "%(name)s", "timelimit": "[%(hard)d,%(soft)d]", HEADER: "%(ours)s"}

#: What a tracer replaces, to see what is sent, and the files of the originals.
WATCHED = (
    (Celery, "send_task", celery.app.base.__file__),
    (Task, "apply_async", celery.app.task.__file__),
    (kombu.messaging.Producer, "publish", kombu.messaging.__file__),
)


class RedisBroker(KombuBroker):
    """kombu takes the lowest number first; within one priority, first in, first out."""

    is_searchable = True
    at_front = 0
    ordinary = 6
    together = 200

    def __init__(self, app: Celery, settings: SettingsInForce) -> None:
        super().__init__(app, settings)
        self._forms: dict[tuple[str, bool], str] = {}
        self._lists: dict[tuple[str, bool], str] = {}
        self._bases: dict[str, str] = {}
        #: The queues of which callers have been told whether they are fair.
        self._known_to_callers: set[str] = set()
        #: What nobody had replaced at the last look.
        self._originals: list[Any] = []
        #: Whether the app's settings let us make the message, and for which values.
        self._is_left_to_us: tuple[bool, list[Any]] | None = None

    def publish(self, sendings: Sequence[Sending], recorder: Recorder) -> list[bool]:
        if not self._may_push():
            return super().publish(sendings, recorder)
        size, written = self.together, list[bool]()
        chunks = (sendings[start : start + size] for start in range(0, len(sendings), size))
        # One alone, as most are, has a shorter script.
        record = recorder.record_each if len(sendings) > 1 else partial(map, recorder.record)
        try:
            for recorded in record(map(self._pushed, chunks)):
                written += map(bool, recorded)
        except BrokerUnavailable as error:
            went = zip(sendings, written, strict=False)
            raise error.about(sent=[sending.message for sending, ok in went if ok]) from None
        return written

    def _pushed(self, sendings: Sequence[Sending]) -> list[Sending]:
        """With what is pushed of those that are not for later."""
        return [
            sent if sent.at is not None else sent.pushed(self._push(sent.message))
            for sent in sendings
        ]  # fmt: skip

    def _send_all(
        self, sendings: Iterable[Sending], producer: Any, sent: list[Message], recorder: Recorder
    ) -> None:
        try:
            super()._send_all(sendings, producer, sent, recorder)
        finally:
            self._ring(message.queue for message in sent)

    def send_again(self, messages: Sequence[Message]) -> None:
        super().send_again(messages)
        self._ring(message.queue for message in messages)

    def send_task(self, task: Any, arguments: Mapping[str, Any], **options: Any) -> Any:
        sent = super().send_task(task, arguments, **options)
        self._ring([queue] if (queue := options["queue"]) else [])
        return sent

    def _ring(self, queues: Iterable[str]) -> None:
        """Wake workers that wait for messages of these queues; without it they look soon, too."""
        with suppress(BrokerUnavailable, BrokerError), self._reaching():
            self._turns.ring({self._base(queue) for queue in queues})

    def push(self, message: Message) -> tuple[str, str, str] | None:
        return self._push(message) if self._may_push() else None

    def _push(self, message: Message) -> tuple[str, str, str]:
        bell = f"{self._base(message.queue)}:bell"
        return self._list_of(message), self._raw(message), bell

    def _may_push(self) -> bool:
        """Whether the message may be pushed with its record, without Celery's own producer.

        Not if something listens to that, or if the app asks for more in a message than we make.
        """
        return (
            not before_task_publish.receivers
            and not after_task_publish.receivers
            and self._are_originals()
            and self._do_settings_allow()
        )

    def _are_originals(self) -> bool:
        now = [getattr(owner, name) for owner, name, _ in WATCHED]
        if now != self._originals:
            if not all(_is_original(*watched) for watched in WATCHED):
                return False
            self._originals = now
        return True

    def _do_settings_allow(self) -> bool:
        conf = self._app.conf
        # A look into Celery's settings takes longer than all other checks here.
        values = [conf.changes.get(name) for name in SETTINGS]
        if self._is_left_to_us is None or self._is_left_to_us[1] != values:
            allowed = (
                not conf.task_always_eager
                and not conf.task_send_sent_event
                and not conf.task_compression
                and conf.task_protocol == 2
            )
            self._is_left_to_us = allowed, values
        return self._is_left_to_us[0]

    def _raw(self, message: Message) -> str:
        """The message as kombu's producer would push it.

        The exchange is "", Redis's default: kombu puts back a lost worker's message through its
        exchange, and a named exchange without a binding would swallow it.
        """
        body = f"[[{message.arguments_json}],{{}},{EMBED}]"
        return self._form(message.queue, message.at_front) % {
            "body": base64.b64encode(body.encode()).decode(),
            "id": message.id,
            "name": to_json(message.name),
            "hard": message.timeout + self._settings.timeout_grace,
            "soft": message.timeout,
            "ours": message.header_json,
        }

    def _form(self, queue: str, at_front: bool) -> str:
        """What all messages of that queue have in common, with gaps for the rest; made once."""
        if (queue, at_front) not in self._forms:
            headers = {
                "lang": "py", "task": TASK, "id": "%(id)s", "shadow": 0, "eta": None,
                "expires": None, "group": None, "group_index": None, "retries": 0,
                "timelimit": 0, "root_id": "%(id)s", "parent_id": None, "argsrepr": "",
                "kwargsrepr": "", "origin": anon_nodename(),
                "ignore_result": self._settings.keeps_results, "replaced_task_nesting": 0,
                "stamped_headers": None, "stamps": {}, HEADER: 0,
            }  # fmt: skip
            properties = {
                "correlation_id": "%(id)s", "reply_to": "", "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": self.queue_name(queue)},
                "priority": self.at_front if at_front else self.ordinary,
                "body_encoding": "base64", "delivery_tag": "%(id)s",
            }  # fmt: skip
            text = json.dumps(
                {"body": "%(body)s", "content-encoding": "utf-8",
                 "content-type": "application/json", "headers": headers, "properties": properties}
            )  # fmt: skip
            for name, gap in GAPS.items():
                text = text.replace(f'"{name}": 0', f'"{name}": {gap}')
            self._forms[queue, at_front] = text
        return self._forms[queue, at_front]

    def _list_of(self, message: Message) -> str:
        """The list that kombu reads for that queue and priority, as its Channel names it."""
        key = message.queue, message.at_front
        if key not in self._lists:
            self._lists[key] = self._named_list(message)
        return self._lists[key]

    def _named_list(self, message: Message) -> str:
        return self._base(message.queue) + self._step(at_front=message.at_front)

    def _step(self, *, at_front: bool) -> str:
        """What the name of the list ends in where these messages lie."""
        steps = self._options.get("priority_steps") or Channel.priority_steps
        return self._steps[bisect(steps, self.at_front if at_front else self.ordinary) - 1]

    @property
    def _options(self) -> Any:
        return self._app.conf.broker_transport_options

    @cached_property
    def _steps(self) -> list[str]:
        """What the names of a queue's lists end in, by priority; those that go first are first."""
        separator = self._options.get("sep", Channel.sep)
        steps = self._options.get("priority_steps") or Channel.priority_steps
        return [f"{separator}{step}" if step else "" for step in steps]

    def _base(self, queue: str) -> str:
        """What the names of a queue's lists begin with."""
        if queue not in self._bases:  # a look into Celery's settings takes long
            prefix = self._options.get("global_keyprefix", "")
            self._bases[queue] = f"{prefix}{self.queue_name(queue)}"
        return self._bases[queue]

    @cached_property
    def _server_client(self) -> Any:
        """For what kombu's channels have no word for; their own client would put a prefix twice."""
        return connect(self._settings.redis_url, decode_responses=False)

    @cached_property
    def _turns(self) -> Turns:
        ordinary = self._step(at_front=False)
        return Turns(self._server_client, self._settings.prefix, self._steps, ordinary)

    def broken_promises(self, message: Message) -> list[str]:
        broken = super().broken_promises(message)
        if not self._settings.is_guest:  # a look into Celery's settings takes long
            return broken
        limit = self._options.get("visibility_timeout", Channel.visibility_timeout)
        if message.timeout > limit:
            broken.append(
                f"{message.name} may run for {message.timeout} s, but on the team's workers Redis "
                f"hands a message to a second one after {limit} s (visibility_timeout): "
                f"{LET_OURS}, or raise it."
            )
        return broken

    def to_be_told(self, message: Message) -> list[str]:
        """Also, once for each queue, that it is unfair."""
        told = super().to_be_told(message)
        if message.queue not in self._known_to_callers:
            self._known_to_callers.add(message.queue)
            told += filter(None, [self.unfair([message.queue])])
        return told

    def unfair(self, queues: Iterable[str]) -> str | None:
        settings = self._settings
        found = [queue for queue in queues if queue in settings.guests]
        if not found or not settings.takes_turns or len(settings.sites.names()) < 2:
            return None
        return (
            f"Sites take no turns in {', '.join(map(repr, found))}, as workers other than ours "
            "may serve that: jobs begin in the order in which they were sent, whatever their "
            "sites' number of jobs and weight. Where workers of ours (frappe-jobs worker) serve a "
            "queue alone, leave it out of 'frappe_jobs_guest_queues'."
        )

    def _server(self, connection: Any) -> BrokerServer:
        return BrokerServer("Redis")

    def _bound(self, queue: Queue, channel: Any) -> Any:
        bound = super()._bound(queue, channel)
        bound.declare()  # kombu deletes only what this process has bound
        return bound

    def held(self, token: str, name: str, *, is_ahead: bool) -> Held | None:
        if not is_ahead:
            return Held(token, self._held_key)
        base = f"{self._options.get('global_keyprefix', '')}{name}"
        front = base + self._step(at_front=True), f"{base}:ahead"
        return Held(token, self._held_key, name, front)

    @cached_property
    def _held_key(self) -> str:
        """The hash of what workers hold."""
        unacked = self._options.get("unacked_key", Channel.unacked_key)
        return f"{self._options.get('global_keyprefix', '')}{unacked}"

    def depth(self, queue: str) -> int:
        with self._reaching():
            return self._turns.depth(self._base(queue))

    def file(self, queues: Iterable[str]) -> None:
        if self._settings.takes_turns:
            with self._reaching():
                for queue in set(queues) - self._settings.guests:
                    self._turns.file(self._base(queue), self.queue_name(queue))

    def file_back(self) -> int:
        with self._reaching():
            return sum(self._turns.file_back(self._base(queue)) for queue in self._settings.queues)

    def why_no_pause(self, *, of_site: bool) -> str | None:
        if self._settings.transport == "celery":
            return "Nothing can be paused while 'frappe_jobs_transport' is 'celery'."
        if of_site and self._settings.guests:
            queues = ", ".join(sorted(self._settings.guests))
            return (
                "A site cannot be paused where workers other than ours serve a queue, only whole "
                f"queues: {queues} ('frappe_jobs_guest_queues')."
            )
        if of_site and not self._settings.takes_turns:
            return "A site cannot be paused while 'frappe_jobs_order' is 'fifo', only whole queues."
        return None

    def held_back(self, queue: str, *, is_paused: bool) -> int:
        if is_paused:
            return self.depth(queue)
        with self._reaching():
            return self._turns.resting(self._base(queue))

    def pause_ended(self, queues: Iterable[str]) -> None:
        with self._reaching():
            for queue in queues:
                self._turns.wake(self._base(queue), self.queue_name(queue))

    def lost(self, messages: Sequence[Message]) -> list[Message]:
        missing = {message.id: message for message in messages}
        inbox, filed = self._places(messages)
        with self._reaching():
            server = self._server_client

            def strike_out_what_workers_hold() -> None:
                for _, held in server.hscan_iter(self._held_key):
                    missing.pop(str(_id(held)), None)

            # Others take from the lists meanwhile: a message that moves on is found further on.
            strike_out_what_workers_hold()
            for strike_out in (_strike_out_what_waits_longest, _strike_out_what_waits):
                for key in chain(inbox, filed):
                    strike_out(server, key, missing)
            strike_out_what_workers_hold()
            for first, *_ in filed.values():
                self._turns.heal(self._base(first.queue), first.site)
        return [*missing.values()]

    def _places(self, messages: Sequence[Message]) -> tuple[dict[str, list[Message]], ...]:
        """The lists that the messages may wait in: the inbox's, then those to which they move."""
        inbox: dict[str, list[Message]] = defaultdict(list)
        filed: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            inbox[self._list_of(message)].append(message)
            filed[self._turns.list_of(self._base(message.queue), message)].append(message)
        return inbox, filed

    def discard(self, messages: Sequence[Message]) -> set[str]:
        taken: set[str] = set()
        with self._reaching():
            for is_filed, places in enumerate(self._places(messages)):
                for key, waiting in places.items():
                    ids = [message.id for message in waiting if message.id not in taken]
                    count = f"{self._base(waiting[0].queue)}:filed" if is_filed else None
                    if ids:
                        taken.update(_take_away(self._server_client, key, ids, count))
        return taken

    def forget(self) -> None:
        super().forget()
        with self._reaching():
            for queue in self._settings.queues:
                self._server_client.delete(*self._turns.keys(self._base(queue)))
            self._forget_tables_that_are_gone()

    def _forget_tables_that_are_gone(self) -> None:
        """Strike them out of kombu's list (from 5.7), which its next worker would do, if any."""
        server, prefix = self._server_client, self._options.get("global_keyprefix", "")
        listed = f"{prefix}{getattr(Channel, 'keyprefix_binding_deadlines', '')}"
        for exchange in server.zrange(listed, 0, -1) if listed != prefix else ():
            if not server.exists(prefix + Channel.keyprefix_queue % exchange.decode()):
                server.zrem(listed, exchange)


def _take_away(server: Any, key: str, ids: Sequence[str], filed: str | None) -> Iterator[str]:
    """Remove these messages from the list, in one pass from its newest end.

    Others push and pop meanwhile: each step is one script, and a push moves what was not looked at
    further on, so none is missed.
    """
    wanted = f"{key}:discard:{uuid4()}"
    with server.pipeline() as pipe:
        for start in range(0, len(ids), CHUNK):
            pipe.sadd(wanted, *ids[start : start + CHUNK])
        pipe.expire(wanted, DISCARD_TTL)
        pipe.execute()
    discard, keys = server.register_script(DISCARD), [key, wanted, *([filed] if filed else [])]
    start, left = 0, len(ids)
    while left:
        seen, *taken = discard(keys=keys, args=[start, start + WINDOW - 1])
        if not seen:
            break
        yield from (message_id.decode() for message_id in taken)
        start += seen - len(taken)
        left -= len(taken)
    server.delete(wanted)


def _is_original(owner: Any, name: str, file: str) -> bool:
    code = getattr(getattr(owner, name), "__code__", None)
    return code is not None and code.co_filename == file


def _strike_out_what_waits_longest(server: Any, key: str, missing: dict[str, Message]) -> None:
    """Search from the old end, where most lost messages would be.

    Workers take from there: if many are taken at once, others move past this search.
    """
    for chunk in range(LONGEST):
        end = -1 - chunk * CHUNK
        for raw in server.lrange(key, end - CHUNK - OVERLAP, end) if missing else ():
            missing.pop(str(_id(raw)), None)


def _strike_out_what_waits(server: Any, key: str, missing: dict[str, Message]) -> None:
    """Search from the new end: a push moves unseen messages further on, so none is missed."""
    start = 0
    while missing and (waiting := server.lrange(key, start, start + CHUNK - 1)):
        for raw in waiting:
            missing.pop(str(_id(raw)), None)
        start += len(waiting)


def _id(raw: bytes) -> object:
    """The message's id; what a worker holds is a list, with the message first."""
    try:
        value = json.loads(raw)
        return (value[0] if isinstance(value, list) else value)["headers"]["id"]
    except (ValueError, LookupError, TypeError):
        return None
