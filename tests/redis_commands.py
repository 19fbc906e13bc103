"""Which commands a bench costs its Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis


@contextmanager
def commands(url: str, bench_id: str) -> Iterator[list[str]]:
    """The names of the bench's commands that reach the server, without those of its scripts."""
    seen: list[str] = []
    server = redis.Redis.from_url(url)
    with server.monitor() as monitor:
        yield seen
        server.echo(bench_id)
        for command in monitor.listen():
            text = command["command"]
            if text == f"ECHO {bench_id}":
                break
            if command["client_type"] != "lua" and bench_id in text:
                seen.append(text.split()[0])
    server.close()
