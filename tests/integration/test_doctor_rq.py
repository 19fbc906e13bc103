"""RQ's side of a bench, as RQ itself writes it into Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from rq import Queue, Worker

from frappe_jobs.ledger.rq import SeenOfRQ, look_at_rq


@pytest.fixture
def rq(redis_url: str) -> Iterator[Any]:
    """A bench's queues on RQ, and a client; what they leave is removed."""
    bench_id = f"test-{uuid4().hex[:12]}"
    with redis.Redis.from_url(redis_url) as client:
        queues = {one: Queue(f"{bench_id}:{one}", connection=client) for one in ("short", "long")}
        yield bench_id, queues, client
        for queue in queues.values():
            queue.delete(delete_jobs=True)
            client.delete(f"rq:workers:{queue.name}")


def test_what_waits_and_who_is_alive_is_read(rq: Any, redis_url: str) -> None:
    bench_id, queues, client = rq
    assert look_at_rq(redis_url, bench_id, queues) == SeenOfRQ([], {})
    queues["long"].enqueue("os.getpid")
    queues["long"].enqueue("os.getpid")
    worker = Worker([queues["short"], queues["long"]], connection=client, name=f"{bench_id}-one")
    killed = Worker([queues["short"]], connection=client, name=f"{bench_id}-killed")
    try:
        worker.register_birth()
        killed.register_birth()
        client.delete(killed.key)  # as its end does, once its time is over
        assert look_at_rq(redis_url, bench_id, queues) == SeenOfRQ([f"{bench_id}-one"], {"long": 2})
        assert look_at_rq(redis_url, f"{bench_id}-other", queues) == SeenOfRQ([], {})
        worker.register_death()
        assert look_at_rq(redis_url, bench_id, queues) == SeenOfRQ([], {"long": 2})
    finally:
        for one in (worker, killed):
            client.delete(one.key)
            client.srem("rq:workers", one.key)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "nonsense"])
def test_a_redis_that_cannot_be_read_is_told_by_others(url: str) -> None:
    assert look_at_rq(url, "b", ["short"]) is None
