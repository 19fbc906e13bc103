"""A generator of what nobody should send: messages, envelopes, control commands; none is ours.

Each is drawn from the seed; what does not make it wrong is left as it should be.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from struct import pack
from typing import Any
from uuid import UUID

import amqp
import redis
from kombu import Connection

from frappe_jobs.message import HEADER, TASK, VERSION

JSON, PICKLE = "application/json", "application/x-python-serialize"

Sent = dict[str, Any]

#: Values of a wrong type or size, for whatever wants another one.
JUNK: tuple[Any, ...] = (
    0, -1, 1.5, 10**30, True, "", "x", "ä\x00\n", "x" * 5_000, [], [1], [None], {}, {"a": 1},
    {"__type__": "uuid", "__value__": {}}, {"__type__": [], "__value__": 1}, "1e999", "\ud800",
)  # fmt: skip


class Exploit:
    """Whoever unpickles this makes a file."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def deep(levels: int, kind: str = "[") -> str:
    """JSON that nests so deep."""
    return "[" * levels + "]" * levels if kind == "[" else '{"a":' * levels + "1" + "}" * levels


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def message(random: Random, command: str, method: str = "os.system", **header: Any) -> Sent:
    """A message of ours by its form, which asks for what it must not have."""
    message_id = header.get("id") or str(UUID(int=random.getrandbits(128), version=4))
    ours = {
        "version": VERSION, "id": message_id, "job_id": message_id, "site": "site1",
        "method": method, "user": "Administrator", "queue": "default", "name": "x", "timeout": 9,
        "enqueued_at": 1.0,
    } | header  # fmt: skip
    return {
        "body": json.dumps([[{"command": command}], {}, {}]).encode(),
        "headers": {"task": TASK, "id": message_id, "lang": "py", HEADER: ours},
        "content_type": JSON, "content_encoding": "utf-8",
    }  # fmt: skip


def not_json(random: Random, command: str, _: Any) -> Sent:
    bodies = (
        b"{half", b"\x00", b"[[1]", "ä".encode("utf-16"), b"", b"\xff\xfe", b"9" * 5_000,
        deep(600).encode(), deep(90_000).encode(), b"null", b"5", b"[]", b"{}", b"[[],{},null]",
        b'{"args":[],"kwargs":{}}', b'{"task":"os.system","id":"1","args":["x"],"kwargs":{}}',
    )  # fmt: skip
    return message(random, command) | {"body": random.choice(bodies)}


def odd_arguments(random: Random, command: str, _: Any) -> Sent:
    one = json.dumps({"command": command})
    bodies = (
        f'[[{{"x":{deep(600)}}}],{{}},{{}}]', f'[[{{"x":{deep(400, "{")}}}],{{}},{{}}]',
        f"[[{one},{one}],{{}},{{}}]", "[[],{},{}]", f'[[{one}],{{"a":1}},{{}}]',
        "[[[]],{},{}]", "[[null],{},{}]", f'[["{command}"],{{}},{{}}]',
        '[[{"x":{"__type__":"datetime","__value__":"2026-01-01"}}],{},{}]',
        '[[{"x":{"\\u005f_type__":"decimal","__value__":"1"}}],{},{}]',
        '[[{"x":{"__type__":"base64","__value__":5}}],{},{}]',
    )  # fmt: skip
    return message(random, command) | {"body": random.choice(bodies).encode()}


def odd_header(random: Random, command: str, _: Any) -> Sent:
    sent = message(random, command)
    wrong = {
        "eta": ("", 0, {}, "some day", [1], "9999-12-31T23:59:59", "0001-01-01", True, nested(150)),
        "expires": ("", {}, "now", 5, "2020-01-01T00:00:00", [None]),
        "stamps": (5, "x", [1]), "stamped_headers": (5, "x", {"a": 1}, [1]),
        "retries": ("many", None, -1, 1.5, True, 10**12), "timelimit": ("soon", [1], [-1, 2], 5),
        "id": (None, 5, "", "a b", "ä", "x\n", [], "x" * 300), "shadow": (5, {"a": 1}, [1]),
        "root_id": ([1], {}), "parent_id": (5, []), "group": ({}, 5), "group_index": ("x", -1),
        "argsrepr": (5, {}), "kwargsrepr": ([], 1), "origin": (5, []), "ignore_result": ("x", 5),
        "replaced_task_nesting": ("x", []), "lang": (5, []), "get": (1,), "properties": ("x",),
        "callbacks": ([{"task": "os.system"}],), "chain": ([{"task": TASK}],), "args": ([1],),
        "errbacks": ([5],), "chord": ({"task": "x"},), "delivery_info": (5,), "hostname": (5,),
        "headers": (5, [], {HEADER: {"method": "acme.tasks.ping"}}), "odd": (nested(50),),
    }  # fmt: skip
    name = random.choice([*wrong])
    sent["headers"][name] = random.choice(wrong[name])
    return sent


def odd_envelope(random: Random, command: str, _: Any) -> Sent:
    sent = message(random, command)
    wrong = {
        "version": (-1, 0, "1", None, True, 1.5, []), "id": ("another", 5), "job_id": (5, []),
        "site": (5, None), "user": ([], 0), "method": (5, {}), "queue": ("nowhere", "", 5),
        "name": (5, None), "timeout": (0, -5, 10**12, "x", 1.5), "event": (5,),
        "retry": (5, [], {}), "enqueued_at": ("x", -1, 10**300, None), "at_front": ("x", 5),
        "surprise": (1,), "on_failure": (5,), "task_id": ([],), "failure_of": (5,),
    }  # fmt: skip
    name = random.choice([*wrong])
    sent["headers"][HEADER][name] = random.choice(wrong[name])
    if random.random() < 0.1:
        sent["headers"][HEADER] = random.choice(JUNK[:16])
    return sent


def no_task(random: Random, command: str, _: Any) -> Sent:
    headers = (
        {}, {"task": "os.system", "id": "1"}, {"task": 5}, {"id": "x"}, {"task": ["x"], "id": "1"},
        {"task": "", "id": "1"}, {"task": "acme.tasks.ping", "id": "1"}, {"task": None, "id": None},
    )  # fmt: skip
    return message(random, command) | {"headers": random.choice(headers)}


def built_in(random: Random, command: str, _: Any) -> Sent:
    names = ("accumulate", "backend_cleanup", "chain", "chord", "chord_unlock", "chunks", "group")
    name = f"celery.{random.choice((*names, 'map', 'starmap', 'nope'))}"
    task = {"task": TASK, "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
    body = json.dumps([[task, [[1], [2]]], {}, {}]).encode()
    return message(random, command) | {"headers": {"task": name, "id": "1"}, "body": body}


def embed(random: Random, command: str, _: Any) -> Sent:
    name = random.choice(("chain", "errbacks", "callbacks", "chord", "surprise"))
    task = {"task": "celery.map", "args": [TASK, [1]], "kwargs": {}, "options": {}}
    value = random.choice(([task], task, "x", 5, [5], [None], {"task": None}))
    body = json.dumps([[{"command": command}], {}, {name: value}]).encode()
    return message(random, command) | {"body": body}


def pickled(random: Random, command: str, _: Any) -> Sent:
    body = pickle.dumps([[Exploit(command)], {}, {}])
    kind = {
        "content_type": random.choice([PICKLE, "application/data", "x" * 200, "", "text/plain"])
    }
    return message(random, command) | {"body": body, "content_encoding": "binary"} | kind


def odd_encoding(random: Random, command: str, _: Any) -> Sent:
    encodings = ("zlib", "rot13", "utf-16", "no such", "binary", "idna", "")
    return message(random, command) | {"content_encoding": random.choice(encodings)}


@cache
def bomb() -> bytes:
    """80 MB in 80 kB."""
    return zlib.compress(b"[" * 80_000_000, 9)


def compressed(random: Random, command: str, _: Any) -> Sent:
    sent = message(random, command)
    kinds = ("zlib", "gzip", "bzip2", "lzma", "brotli", "zstd", "nope", "application/x-gzip")
    sent["headers"]["compression"] = random.choice(kinds)
    if random.random() < 0.02:
        sent["headers"]["compression"], sent["body"] = "zlib", bomb()
    return sent


def of_the_system(random: Random, command: str, _: Any) -> Sent:
    paths = ["os.system", "acme.tasks.system", "acme.tasks.os.system", "subprocess.getoutput"]
    return message(random, command, method=random.choice(paths))


def another_sites_id(random: Random, command: str, theirs: Any) -> Sent:
    """The ids of a job of the other site that waits, in the name of this one."""
    return message(
        random, command, **random.choice([{"id": theirs.message_id}, {}]), job_id=theirs.id
    )


def another_site(random: Random, command: str, _: Any) -> Sent:
    return message(random, command, site=random.choice(["nowhere", "../site1", ""]))


Kind = Callable[[Random, str, Any], Sent]

#: What becomes a job that fails, and costs as much as any; and what is no job.
FAIL: tuple[Kind, ...] = (of_the_system, another_sites_id, another_site)
NONE: tuple[Kind, ...] = (
    not_json, odd_arguments, odd_header, odd_envelope, no_task, built_in, embed, pickled,
    odd_encoding, compressed,
)  # fmt: skip


def control(random: Random) -> bytes:
    """A control command that is none, or fails; not one that Celery has, and does."""
    bodies = (
        b"null", b"5", b"{", b'"x"', b"[]", b"{}", b'{"method":5}', b'{"method":"nope"}',
        b'{"method":"nope","destination":5}', b'{"method":"ping","surprise":1}',
        b'{"method":"ping","arguments":[1]}', b'{"method":"ping","reply_to":{"a":1}}',
        b'{"method":"ping","pattern":"(.+)+!","matcher":"pcre"}', deep(600).encode(),
        b'{"method":"ping","pattern":"x","matcher":"nope"}', b'{"method":"rate_limit"}',
        b'{"method":"stats","arguments":{"nope":{}},"ticket":5}', b'{"method":"shutdown","x":1}',
    )  # fmt: skip
    return random.choice(bodies)


class OnRedis:
    """Writes them into Redis as kombu would, and what kombu never would."""

    def __init__(self, url: str, queue: str) -> None:
        self._server, self._queue = redis.Redis.from_url(url), queue
        self._pipe = self._server.pipeline(transaction=False)

    def send(self, random: Random, sent: Sent) -> None:
        envelope = {
            "body": base64.b64encode(sent["body"]).decode(),
            "content-type": sent["content_type"], "content-encoding": sent["content_encoding"],
            "headers": sent["headers"],
            "properties": {
                "delivery_tag": "a tag", "body_encoding": "base64", "priority": 0,
                "delivery_info": {"exchange": "", "routing_key": self._queue},
            },
        }  # fmt: skip
        self._pipe.lpush(self._queue, json.dumps(envelope))

    def send_raw(self, random: Random, command: str) -> None:
        self._pipe.lpush(self._queue, self._raw(random, command))

    def _raw(self, random: Random, command: str) -> bytes:
        items = (
            b"{", b"null", b"5", b"[]", b"{}", b"\xff\x00", b"", random.randbytes(50),
            deep(90_000).encode(), b'"x"', b'{"properties":null}', b'{"headers":5,"properties":{}}',
        )  # fmt: skip
        if random.random() < 0.3:
            return random.choice(items)
        sent = message(random, command)
        envelope = {
            "body": base64.b64encode(sent["body"]).decode(), "headers": sent["headers"],
            "content-type": JSON, "content-encoding": "utf-8",
        }  # fmt: skip
        properties = {
            "delivery_tag": "a tag", "body_encoding": "base64", "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": self._queue},
        }  # fmt: skip
        wrong: dict[str, Any] = {
            "delivery_tag": (None, 5, [], {}), "body_encoding": (5, "rot13", [], "nope"),
            "priority": ("x", [], {}, 1.5), "delivery_info": (None, 5, [], {}, {"exchange": []}),
            "body": (5, None, [], "a", "====", "ä", {"__type__": "nope", "__value__": 1}),
            "headers": (5, "x", [1], nested(600)), "content-type": (5, []), "": (),
            "content-encoding": (5, {}), "properties": (None, 5, [], "x", {}),
        }  # fmt: skip
        name = random.choice([*wrong])
        where = properties if name in properties else envelope
        envelope["properties"] = properties
        if name:
            where[name] = random.choice(wrong[name])
        else:
            del where[random.choice(("properties", "body", "headers"))]
        return json.dumps(envelope).encode()

    def send_control(self, random: Random) -> None:
        body = control(random)
        if random.random() < 0.5:
            item = random.choice((b"null", b"{", b"[]", b"5", b"{}", b"\xff", body))
        else:
            clock = random.choice((0, "x", 10**400, -1, [], 1.5))
            item = json.dumps(
                {
                    "body": base64.b64encode(body).decode(), "content-type": JSON,
                    "content-encoding": "utf-8", "headers": {"clock": clock},
                    "properties": {
                        "delivery_tag": "x", "body_encoding": "base64", "priority": 0,
                        "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                    },
                }
            ).encode()  # fmt: skip
        self._pipe.publish("/0.celery.pidbox", item)

    def flush(self) -> None:
        self._pipe.execute()

    def close(self) -> None:
        self._server.close()


class Raw(amqp.Message):
    """Its properties are bytes that somebody else has written."""

    raw = b""

    def _serialize_properties(self) -> bytes:
        return self.raw


def deep_table(levels: int) -> bytes:
    """Tables within tables, as AMQP writes them."""
    table = b""
    for _ in range(levels):
        table = b"\x01aF" + pack(">I", len(table)) + table
    return table


def with_table(table: bytes, content_type: bytes) -> Raw:
    """A message whose headers are these bytes."""
    one = Raw(b"[[],{},{}]")
    length = pack(">B", len(content_type))
    one.raw = pack(">H", 0xA000) + length + content_type + pack(">I", len(table)) + table
    return one


class OnRabbitMQ:
    """Publishes them, and what py-amqp never would."""

    def __init__(self, url: str, queue: str) -> None:
        self._connection, self._queue = Connection(url), queue
        self._channel = self._connection.default_channel

    def send(self, random: Random, sent: Sent) -> None:
        headers = {name: _tabled(value) for name, value in sent["headers"].items()}
        one = amqp.Message(
            sent["body"], content_type=sent["content_type"], application_headers=headers,
            content_encoding=sent["content_encoding"], priority=random.choice((0, 1, 9, 255)),
        )  # fmt: skip
        self._channel.basic_publish(one, routing_key=self._queue)

    def send_raw(self, random: Random, command: str) -> None:
        tables = (
            b"\x01aT" + pack(">Q", 2**63), b"\x02\xff\xfeV", b"\x01aS\x00\x00\x00\x02\xff\xfe",
            b"\x04taskS\x00\x00\x00\x01\xff", b"\x01ax\x00\x00\x00\x01a", deep_table(2_000),
            b"\x01aD\xff\x00\x00\x00\x01",
        )  # fmt: skip
        kind = random.choice((b"\xff\xfe", JSON.encode()))
        one = with_table(random.choice(tables), content_type=kind)
        self._channel.basic_publish(one, routing_key=self._queue)

    def send_control(self, random: Random) -> None:
        headers = {"clock": random.choice((0, "x", 2**62, -1, [1], 1.5))}
        one = amqp.Message(
            control(random), content_type=JSON, content_encoding="utf-8",
            application_headers=headers,
        )  # fmt: skip
        self._channel.basic_publish(one, exchange="celery.pidbox")

    def flush(self) -> None:
        self._channel.queue_declare(self._queue, passive=True)  # all before has arrived by now

    def close(self) -> None:
        self._connection.close()


def _tabled(value: Any) -> Any:
    """As AMQP's tables can hold it."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 62:
        return float(value) if value.bit_length() < 1000 else "too long"
    if isinstance(value, dict):
        return {name[:100]: _tabled(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_tabled(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
