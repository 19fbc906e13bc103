"""What a Redis says of itself: its version, its memory, its disk, its clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.ledger.connection import connect
from frappe_jobs.servers.clock import ahead
from frappe_jobs.servers.unreached import unreached
from frappe_jobs.texts.masking import masked

#: Seconds for it to take a connection, and to answer.
QUESTION_LIMITS = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), 2.0)

#: Parts of INFO, and settings beside them.
SECTIONS = ("server", "memory", "persistence", "replication")
SETTINGS = ("save", "appendfsync", "stop-writes-on-bgsave-error")

#: Writes from a script, as ours do; the key is gone a second later.
TRIAL = "return redis.call('SET', KEYS[1], '1', 'PX', 1000)"


@dataclass(frozen=True)
class RedisServer:
    """A Redis as it describes itself."""

    #: By the names of INFO; empty where we may not ask.
    info: Mapping[str, Any]
    #: By the names of CONFIG GET; empty where we may not ask.
    config: Mapping[str, str]
    #: Seconds by which its clock is ahead of ours; negative: behind.
    ahead: float = 0.0
    #: What it answers when we write; None if it takes that.
    refusal: str | None = None

    @property
    def name(self) -> str:
        """As people know it: ``Redis 7.0.15``, ``Valkey 9.0.0``."""
        product = str(self.info.get("server_name") or "redis")
        version = self.info.get(f"{product}_version") or self.info.get("redis_version")
        return f"{product.title()} {version or '(of an unknown version)'}"

    @property
    def version(self) -> tuple[int, ...]:
        """Of Redis, or of the Redis that it is compatible with; empty if it does not say."""
        parts = str(self.info.get("redis_version", "")).split(".")
        return tuple(int(part) for part in parts if part.isdecimal())


def look_at(url: str, prefix: str) -> RedisServer:
    """Ask it; raises BrokerUnavailable, also if it is silent for some seconds.

    Whether it lets us write is tried with a key of that prefix, which is gone a second later.
    """
    try:
        with connect(url, **QUESTION_LIMITS) as client:
            _allowed(lambda: {"pong": client.ping()})  # a full disk forbids even that
            return _describe(client, f"{prefix}trial")
    except ValueError as error:
        raise BrokerUnavailable(f"{masked(url)} is no URL of a Redis: {error}.") from None
    except redis.RedisError as error:
        why = unreached(error, url)
        raise BrokerUnavailable(f"Redis at {masked(url)} is out of reach: {why}") from None


def run_of(url: str) -> str | None:
    """What Redis calls the run of the server behind that URL; None if it does not say.

    Two URLs of one server have it in common, whatever their hosts and databases are.
    """
    try:
        with connect(url, **QUESTION_LIMITS) as client:
            return _allowed(client.info, "server").get("run_id")
    except (ValueError, redis.RedisError):
        return None


def _describe(client: Any, key: str) -> RedisServer:
    info: dict[str, Any] = {}
    for section in SECTIONS:
        info |= _allowed(client.info, section)
    config: dict[str, str] = {}
    for name in SETTINGS:
        config |= _allowed(client.config_get, name)
    asked = time.time()
    told = _allowed(lambda: dict(zip(("s", "us"), client.time(), strict=True)))
    answered = time.time()
    there = told["s"] + told["us"] / 1e6 if told else asked
    return RedisServer(
        info, config, ahead(there, asked=asked, answered=answered), _refusal(client, key)
    )


def _allowed(ask: Any, *arguments: str) -> dict[str, Any]:
    """Its answer; empty where its access list forbids the command, or it has no such command."""
    try:
        return dict(ask(*arguments))
    except redis.ResponseError:
        return {}


def _refusal(client: Any, key: str) -> str | None:
    try:
        client.eval(TRIAL, 1, key)
    except redis.ResponseError as error:
        return str(error)
    return None
