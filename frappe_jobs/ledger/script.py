"""A script of Redis as a function; only its hash is sent.

What redis-py does around a call (options, metrics, a retry that we never want) costs more than the
call itself, and most of what a job costs is calls of scripts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from typing import Any

import redis
from redis.exceptions import NoScriptError

try:
    from hiredis import pack_command
except ImportError:
    pack_command = None

#: Before 5.3 redis-py's pools want a command's name, which they do not use; then they warn of it.
_OF_POOL = inspect.signature(redis.ConnectionPool.get_connection).parameters["command_name"]
NAMED = ("EVALSHA",) if _OF_POOL.default is inspect.Parameter.empty else ()


class Script:
    """Called with keys and arguments; with a pipeline as ``client`` it becomes part of that."""

    def __init__(self, client: Any, text: str) -> None:
        self._client, self._text = client, text
        self._registered = client.register_script(text)
        self._hash = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self, keys: Sequence[Any] = (), args: Iterable[Any] = (), client: Any = None
    ) -> Any:
        if client is not None:
            return self._registered(keys=keys, args=args, client=client)
        command = packed(("EVALSHA", self._hash, len(keys), *keys, *args))
        try:
            return self._call(command)
        except NoScriptError:
            return self._load_and_call(command)

    def each(self, calls: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """Call it with each of these arguments, one call after another; gives the answers.

        The next call is made ready while Redis works.  Raises what a single call raises.
        """
        pool = self._client.connection_pool
        connection = pool.get_connection(*NAMED)
        sent = b""
        try:
            for args in calls:
                command = packed(("EVALSHA", self._hash, 0, *args))
                if sent:
                    yield self._answer(connection, sent)
                connection.send_packed_command([command])
                sent = command
            if sent:
                yield self._answer(connection, sent)
        except BaseException:  # nobody may read the answer to this for another's
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _answer(self, connection: Any, command: bytes) -> Any:
        try:
            return connection.read_response()
        except NoScriptError:
            return self._load_and_call(command)

    def _load_and_call(self, command: bytes) -> Any:
        self._client.script_load(self._text)
        return self._call(command)

    def _call(self, command: bytes) -> Any:
        pool = self._client.connection_pool
        connection = pool.get_connection(*NAMED)
        try:
            connection.send_packed_command([command])
            return connection.read_response()
        except redis.ResponseError:  # an answer like any other
            raise
        except BaseException:  # nobody may read the answer to this for another's
            connection.disconnect()
            raise
        finally:
            pool.release(connection)


#: What hiredis packs as ``_as_bytes`` would; it takes a bool for a number.
PLAIN = frozenset((str, bytes, int, float))


def packed(parts: Sequence[Any]) -> bytes:
    """A command as Redis reads it; raises redis.DataError for what has no form there."""
    if pack_command and PLAIN.issuperset(map(type, parts)):
        try:
            command: bytes = pack_command(tuple(parts))
            return command
        except UnicodeEncodeError:  # a text that came from bytes that are no UTF-8
            pass
    found = [
        part.encode("utf-8", "surrogateescape") if type(part) is str else _as_bytes(part)
        for part in parts
    ]
    head = b"*%d\r\n" % len(found)
    return head + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in found])


def _as_bytes(part: Any) -> bytes:
    """Of bytes, a number, or a kind of text; a text may have come from bytes that are no UTF-8."""
    if isinstance(part, bytes):
        return part
    if isinstance(part, str):
        return part.encode("utf-8", "surrogateescape")
    if isinstance(part, (int, float)) and not isinstance(part, bool):
        return repr(part).encode()
    raise redis.DataError(f"Redis has no form for {type(part).__name__}.")
