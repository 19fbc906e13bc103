"""A worker: Celery's, on the bench's queues."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from celery import Celery
from celery.signals import worker_ready
from celery.utils.nodenames import gethostname, nodename

from frappe_jobs.celery.app import equip, worker_settings
from frappe_jobs.celery.lease import IDENTITY
from frappe_jobs.celery.log import Log, Output
from frappe_jobs.servers.in_force import SettingsInForce

#: The orders in which a worker may look into its queues on Redis, and kombu's name for each.
STRATEGIES = {"round_robin": "round_robin", "random": "frappe_jobs.celery.queue_order:Random"}

MEBIBYTE = 1024  # in KiB, Celery's unit


@dataclass(frozen=True)
class Worker:
    """What a worker was asked to do."""

    queues: Sequence[str]
    concurrency: int = 1
    pool: str = "prefork"
    log: Log = Log()
    burst: bool = False
    strategy: str | None = None
    #: Its Celery node name; None: made, and unlike any other worker's.
    name: str | None = None
    #: A process is replaced after that many jobs, or when a job leaves it above that many MiB.
    max_jobs: int | None = None
    max_memory: int | None = None
    #: Whether it sends Celery's events before somebody asks for them.
    events: bool = False


def run_worker(
    app: Celery, settings: SettingsInForce, asked: Worker, on_ready: Callable[[], object]
) -> NoReturn:
    """Run the jobs of its queues until the process is told to stop; then exits it.

    Earlier queues go first, unless ``strategy`` says otherwise on Redis.  Raises the process's
    niceness by ``background_process_niceness``, as Frappe's workers do.
    """
    Output.log = asked.log
    os.nice(settings.background_process_niceness)
    if asked.pool != "prefork":
        text = f"A {asked.pool} pool cannot enforce timeouts: a job may run for ever."
        print(text, file=sys.stderr)
    if settings.is_guest:  # the team's app, in a process of ours: it gets our worker's settings
        equip(app)
        options = app.conf.broker_transport_options
        app.conf.update(worker_settings(settings))
        app.conf.broker_transport_options = options | app.conf.broker_transport_options
    if asked.strategy:
        app.conf.broker_transport_options |= {"queue_order_strategy": STRATEGIES[asked.strategy]}
    worker_ready.connect(lambda **_: on_ready(), weak=False)
    worker = app.Worker(
        hostname=_node_name(asked),
        queues=[f"{settings.bench_id}:{queue}" for queue in asked.queues],
        concurrency=asked.concurrency,
        pool=asked.pool,
        burst=asked.burst,
        task_events=asked.events or None,  # None: as a team's own app says
        max_tasks_per_child=asked.max_jobs,
        max_memory_per_child=asked.max_memory and asked.max_memory * MEBIBYTE,
        loglevel=asked.log.level,
        # It has one process to write to, and is not to wait until that is free.
        optimization="fast" if asked.concurrency == 1 else "fair",
        quiet=True,  # no banner: standard output stays clean
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


def _node_name(asked: Worker) -> str:
    """As asked, or such as ``short+default.3f9a2c1b.4711@host``.

    The random part tells it from a worker in another container with the same host name: a message
    for one of them would reach both (Redis), or RabbitMQ would refuse the second.
    """
    name = asked.name or f"{'+'.join(asked.queues)}.{IDENTITY}.{os.getpid()}"
    return name if "@" in name else nodename(name, gethostname())


def say_ready() -> None:
    """Print "ready" on standard error, for what started the process."""
    # Not by sys.stderr, which is Celery's log by now; in one write, as other processes write there.
    os.write(2, b"ready\n")
