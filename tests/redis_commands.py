"""Which commands a bench costs its Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis


@contextmanager
def commands(url: str, bench_id: str) -> Iterator[list[str]]:
    """The names of the bench's commands that reach the server, without those of its scripts.

    Without those, too, by which a doctor that another test runs counts each bench's open jobs.
    """
    seen: list[str] = []
    server = redis.Redis.from_url(url)
    with server.monitor() as monitor:
        yield seen
        server.echo(bench_id)
        for command in monitor.listen():
            text = command["command"]
            if text == f"ECHO {bench_id}":
                break
            is_doctors = text.startswith("ZCARD ") and f"{bench_id}:open:" in text
            if command["client_type"] != "lua" and bench_id in text and not is_doctors:
                seen.append(text.split()[0])
    server.close()
