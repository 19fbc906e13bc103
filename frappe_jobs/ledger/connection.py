"""A connection to Redis, whose own errors become ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis

from frappe_jobs.brokers.url import read_url
from frappe_jobs.ledger.refusals import as_ours
from frappe_jobs.masking import masked

Method = TypeVar("Method", bound=Callable[..., Any])


class Connected:
    """What speaks to one Redis."""

    def __init__(self, url: str) -> None:
        self._whole_url, self._url = url, masked(url)
        # Any: the types of redis-py are not the same from one version to the next.
        # What others have written need not be UTF-8; it must not end a reply in its middle.
        self.redis: Any = connect(url, socket_connect_timeout=5, encoding_errors="surrogateescape")

    @contextmanager
    def reaching(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise as_ours(error, f"Redis at {self._url}", self._whole_url) from None


def reachable(method: Method) -> Method:
    """Turn Redis's own errors into BrokerUnavailable with the address, never the password.

    An answer that no waiting changes becomes a BrokerError.
    """

    @functools.wraps(method)
    def call(self: Connected, *arguments: Any, **options: Any) -> Any:
        with self.reaching():
            return method(self, *arguments, **options)

    return call  # type: ignore[return-value]


def connect(url: str, **defaults: Any) -> Any:
    """redis-py's client, not connected yet, with these arguments where the URL says nothing.

    Raises ValueError for a URL that cannot be read.
    """
    return redis.Redis.from_url(**read_url(url).for_redis_py(decode_responses=True, **defaults))
