"""The libraries that are measured: a row here, and a module for what runs in their processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

#: Lists that hold what waits; Celery's are named for the priority, too.
CELERY_LIST = "benchmarks:default\x06\x166"
#: The sites folder that they share, below the run's own.
SITES = "sites"
PYTHON = (sys.executable, "-m")
CELERY = (
    *PYTHON, "celery", "--quiet", "--app", "benchmarks.contenders.celery", "worker",
    "--concurrency", "1", "--loglevel", "WARNING", "--without-gossip", "--without-mingle",
)  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One library, as the runner sees it."""

    name: str
    #: The module beside this one that its producer imports.
    module: str
    worker: Sequence[str]
    waiting: Callable[[Any], int]
    #: How its worker takes a job, so that nobody compares what cannot be.
    remark: str
    #: Packages it is made of; absent ones are named and leave the rest alone.
    packages: Sequence[str] = ()
    #: What its producer calls to send jobs one by one, and to send them before a drain.
    enqueue: str = "enqueue"
    fill: str = "enqueue"
    sites: str = SITES
    #: Only a way to drain another contender's queue.
    drain_only: bool = False

    @property
    def absent(self) -> list[str]:
        return [name for name in self.packages if not find_spec(name)]


def _list(key: str) -> Callable[[Any], int]:
    return lambda server: int(server.llen(key))


def _inbox_and_turns(server: Any) -> int:
    """What waits for our workers: in the list, and filed from there into the sites' turns."""
    with server.pipeline() as pipe:
        listed, filed = pipe.llen(CELERY_LIST).get("benchmarks:default:filed").execute()
    return int(listed) + int(filed or 0)


def _stream(key: str) -> Callable[[Any], int]:
    """What waits in a stream: all that its group has not read."""

    def waiting(server: Any) -> int:
        if not server.exists(key):
            return 0
        read = sum(int(group["entries-read"] or 0) for group in server.xinfo_groups(key))
        return int(server.xlen(key)) - read

    return waiting


OURS = Contender(
    name="frappe_jobs",
    module="ours",
    worker=(*PYTHON, "frappe_jobs", "worker", "--queue", "default", "--quiet"),
    waiting=_inbox_and_turns,
    remark="late acknowledgement, prefetch 1, a record and a result for each job, prefork",
    fill="enqueue_many",
)
#: What the figures are about: a message with all that ours has.
BARE = Contender(
    name="Celery, equal message",
    module="celery",
    worker=CELERY,
    waiting=_list(CELERY_LIST),
    remark="late acknowledgement, prefetch 1, a result for each job, prefork",
)
#: The least that Celery can be asked for.
PLAIN = Contender(
    name="Celery, plain call",
    module="celery",
    worker=CELERY,
    waiting=_list(CELERY_LIST),
    remark="as before; no headers, time limits, priority or name in the message",
    enqueue="enqueue_plain",
    fill="enqueue_plain",
)
PEERS = (
    Contender(
        name="rq",
        module="rq",
        worker=(*PYTHON, "benchmarks.contenders.rq", "rq.Worker"),
        waiting=_list("rq:queue:default"),
        remark="a fork for each job, a record and a result for each",
        packages=("rq",),
    ),
    Contender(
        name="rq, SimpleWorker",
        module="rq",
        worker=(*PYTHON, "benchmarks.contenders.rq", "rq.SimpleWorker"),
        waiting=_list("rq:queue:default"),
        remark="as before, without the fork",
        packages=("rq",),
        drain_only=True,
    ),
    Contender(
        name="dramatiq",
        module="dramatiq",
        worker=(*PYTHON, "dramatiq", "benchmarks.contenders.dramatiq", "--processes", "1"),
        waiting=_list("dramatiq:default"),
        remark="late acknowledgement, a result for each job, one process, its usual 8 threads",
        packages=("dramatiq",),
    ),
    Contender(
        name="huey",
        module="huey",
        worker=(*PYTHON, "huey.bin.huey_consumer",
                "benchmarks.contenders.huey.queue", "--quiet"),
        waiting=_list("huey.redis.benchmarks"),
        remark="no acknowledgement: a killed worker loses its job; a result for each, one thread",
        packages=("huey",),
    ),
    Contender(
        name="taskiq",
        module="taskiq",
        worker=(*PYTHON, "taskiq", "worker", "benchmarks.contenders.taskiq:broker",
                "--workers", "1", "--max-async-tasks", "1", "--log-level", "WARNING"),
        waiting=_stream("taskiq"),
        remark="a stream, late acknowledgement, up to 100 fetched at once, a result for each",
        packages=("taskiq", "taskiq_redis"),
    ),
)  # fmt: skip
