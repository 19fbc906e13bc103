"""A connection to Redis, whose own errors become ours."""

from __future__ import annotations

import functools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry

from frappe_jobs.errors import BrokerError
from frappe_jobs.ledger.script import Script
from frappe_jobs.servers.refusals import as_ours
from frappe_jobs.servers.sockets import IDLE, REDIS_LIMITS
from frappe_jobs.servers.url import read_url
from frappe_jobs.texts.masking import masked

#: Seconds between two attempts where what failed can be done without.
PAUSE = 0.2

Method = TypeVar("Method", bound=Callable[..., Any])


class FreshPool(redis.ConnectionPool):
    """Connects anew what nobody has used for a while, rather than find out too late that it broke.

    A command that gets no answer may have been executed or not, so none is sent twice.

    What redis-py 8 notes of each use (metrics, events) takes longer than a short command, so a
    connection stays in use as far as that knows, and is handed on here.
    """

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        if self.pid != os.getpid() or not (connection := self._pop()):
            return super().get_connection(*arguments, **options)
        idle, connection.released_at = time.monotonic() - connection.released_at, None
        try:
            if idle > IDLE or _is_broken(connection):
                connection.disconnect()
            connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        if connection.pid != os.getpid() or getattr(connection, "should_reconnect", bool)():
            super().release(connection)
        elif getattr(connection, "released_at", None) is None:
            connection.released_at = time.monotonic()
            self._free.append(connection)

    def reset(self) -> None:
        """Forget all connections: also in a process that was forked."""
        self._free: deque[Any] = deque()
        super().reset()

    def _pop(self) -> Any:
        try:
            return self._free.pop()
        except IndexError:
            return None


def _is_broken(connection: Any) -> bool:
    """Whether it has ended, or has something to read that nobody waits for."""
    try:
        return _may_be_readable(connection._sock) and bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True


def _may_be_readable(sock: Any) -> bool:
    """Whether redis-py is to look; the system alone says no in a tenth of the time."""
    if type(sock) is not socket or not hasattr(select, "poll"):  # TLS may have read ahead
        return True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


class Packer(HiredisRespSerializer):
    """Makes a command bytes; a text that is no UTF-8 becomes the bytes that it was read from."""

    def pack(self, *parts: Any) -> Any:
        """As redis-py does it, which lets hiredis refuse such a text."""
        try:
            return super().pack(*parts)
        except UnicodeEncodeError:
            texts: Any = (as_bytes(one) if isinstance(one, str) else one for one in parts)
            return super().pack(*texts)


#: What others have written need not be UTF-8: it neither breaks a reply in its middle, nor is it
#: refused where it is sent back.
ANY_TEXT: dict[str, Any] = {"encoding_errors": "surrogateescape"}
try:
    from hiredis import pack_command  # noqa: F401
except ImportError:  # redis-py's own packer minds the errors
    pass
else:
    ANY_TEXT["command_packer"] = Packer()


class Connected:
    """What speaks to one Redis."""

    def __init__(self, url: str) -> None:
        self._whole_url, self._url = url, masked(url)
        # Any: redis-py's types differ from version to version.
        self.redis: Any = connect(url, **ANY_TEXT)
        #: Makes a script's text a function of ``keys`` and ``args``; only its hash is sent.
        self._script = functools.cache(functools.partial(Script, self.redis))

    @contextmanager
    def reaching(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise self._as_ours(error) from None

    def _as_ours(self, error: redis.RedisError) -> BrokerError:
        return as_ours(error, f"Redis at {self._url}", self._whole_url)


def reachable(method: Method) -> Method:
    """Turn Redis's own errors into BrokerUnavailable with the address, never the password.

    A refusal that waiting does not change becomes a BrokerError.
    """

    @functools.wraps(method)
    def call(self: Connected, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except redis.RedisError as error:
            raise self._as_ours(error) from None

    return call  # type: ignore[return-value]


def connect(url: str, **defaults: Any) -> Any:
    """redis-py's client, not connected yet, with these arguments where the URL says nothing.

    It has our time limits, and sends nothing twice: a command that got no answer may have been
    executed.  Raises ValueError for a URL that cannot be read.
    """
    ours = {"decode_responses": True, "retry": Retry(NoBackoff(), 0), **REDIS_LIMITS}
    arguments = read_url(url).for_redis_py(**ours | defaults)
    client: Any = redis.Redis(connection_pool=FreshPool.from_url(**arguments))
    client.auto_close_connection_pool = True  # the pool is the client's own
    return client


def as_bytes(text: str) -> bytes:
    """What lies in Redis, from the text that ``Connected.redis`` has made of it."""
    return text.encode("utf-8", "surrogateescape")


def wait_for_word(channel: Any, seconds: float) -> None:
    """Return when something is published there, or after that many seconds."""
    try:
        channel.get_message(timeout=seconds)
    except (redis.ConnectionError, redis.TimeoutError):  # the next call connects it anew
        threading.Event().wait(min(seconds, PAUSE))
