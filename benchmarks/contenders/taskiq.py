"""taskiq on a Redis stream, with its results."""

from __future__ import annotations

import asyncio

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.contenders.url import URL
from benchmarks.tasks import ARGUMENTS, noop, stamp

# From the first message on: the jobs are sent before the worker begins.
broker = RedisStreamBroker(URL, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(URL, result_ex_time=600)
)


@broker.task(task_name="noop")
async def task(order: str, pieces: int) -> int:
    return noop(order, pieces)


@broker.task(task_name="stamp")
async def stamping(address: str) -> None:
    stamp(address)


async def _enqueue(count: int) -> None:
    for _ in range(count):
        await task.kiq(**ARGUMENTS)


_loop = asyncio.new_event_loop()


def enqueue(count: int) -> None:
    _loop.run_until_complete(_enqueue(count))


def enqueue_stamp(address: str) -> None:
    _loop.run_until_complete(stamping.kiq(address))
