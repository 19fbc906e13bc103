"""huey, with its results."""

from __future__ import annotations

from huey import RedisHuey

from benchmarks.contenders.url import URL
from benchmarks.tasks import ARGUMENTS, noop, stamp

queue = RedisHuey("benchmarks", url=URL)
task = queue.task()(noop)
stamping = queue.task()(stamp)


def enqueue(count: int) -> None:
    for _ in range(count):
        task(**ARGUMENTS)


def enqueue_stamp(address: str) -> None:
    stamping(address)
