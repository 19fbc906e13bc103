"""rq; as a program its worker, of the class that is named."""

from __future__ import annotations

import logging
import sys
from importlib import import_module

from redis import Redis
from rq import Queue

from benchmarks.contenders.url import URL
from benchmarks.tasks import ARGUMENTS, noop, stamp

queue = Queue(connection=Redis.from_url(URL))


def enqueue(count: int) -> None:
    for _ in range(count):
        queue.enqueue(noop, kwargs=ARGUMENTS)


def enqueue_stamp(address: str) -> None:
    queue.enqueue(stamp, address)


if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(".")
    worker = getattr(import_module(module), name)([queue], connection=queue.connection)
    worker.work(logging_level=logging.WARNING)
