"""A bench whose ways to its servers a test can spoil."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from proxy import Proxy

#: Shorter than ours, so that a test is.
IMPATIENT = "?socket_timeout=1&socket_connect_timeout=1&health_check_interval=1"
ATTENTIVE = "?heartbeat=2"


class Network(AbstractContextManager["Network"]):
    """The bench, in use in this process, and the same bench by ways that nobody spoils."""

    def __init__(
        self,
        make_bench: Callable[..., Any],
        redis_url: str,
        amqp_url: str | None = None,
        *,
        redis_query: str = IMPATIENT,
        amqp_query: str = ATTENTIVE,
        host: str = "127.0.0.1",
        **config: Any,
    ) -> None:
        self._stack = ExitStack()
        self.ways = [
            self._stack.enter_context(Proxy(url, host)) for url in (redis_url, amqp_url) if url
        ]
        urls = {"redis_queue": self.ways[0].url + redis_query}
        if amqp_url:
            urls["celery_broker_url"] = self.ways[1].url + amqp_query
        self.bench = make_bench(**urls | config)
        self.bench.amqp_url = None  # what it has there is removed by the direct way
        direct = {"redis_queue": redis_url} | ({"celery_broker_url": amqp_url} if amqp_url else {})
        self.direct = make_bench(**direct | config | {"bench_id": self.bench.id})
        self.direct.id = self.bench.id
        self.bench.use()

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def tell(self, what: str, *arguments: Any, **options: Any) -> None:
        """Have all of its ways do that."""
        for way in self.ways:
            getattr(way, what)(*arguments, **options)

    @contextmanager
    def workers(self, count: int = 2, *arguments: str) -> Iterator[list[Any]]:
        """So many workers, none of which may end by itself."""
        with ExitStack() as stack:
            command = ("worker", "--queue", "default", *arguments)
            started = [stack.enter_context(self.bench.process(*command)) for _ in range(count)]
            for one in started:
                one.wait_ready()
            try:
                yield started
                assert [one.process.poll() for one in started] == [None] * count
            except BaseException:
                print(*(one.log for one in started), sep="\n\n")
                raise
