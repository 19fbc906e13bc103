"""dramatiq, with its results."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.contenders.url import URL
from benchmarks.tasks import ARGUMENTS, noop, stamp

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)
actor = dramatiq.actor(noop, store_results=True)
stamping = dramatiq.actor(stamp, store_results=True)


def enqueue(count: int) -> None:
    for _ in range(count):
        actor.send(**ARGUMENTS)


def enqueue_stamp(address: str) -> None:
    stamping.send(address)
