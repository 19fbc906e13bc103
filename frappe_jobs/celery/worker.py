"""One worker: Celery's, on the bench's queues."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from celery import Celery
from celery.signals import worker_ready
from celery.utils.nodenames import gethostname, nodename

from frappe_jobs.celery import child
from frappe_jobs.celery.app import queues as bench_queues
from frappe_jobs.celery.app import worker_settings
from frappe_jobs.celery.stopping import FinishReading
from frappe_jobs.celery.timers import DropTimers
from frappe_jobs.config import Settings


def run_worker(
    app: Celery,
    settings: Settings,
    queues: Sequence[str],
    *,
    concurrency: int,
    quiet: bool,
    pool: str,
) -> None:
    """Run the jobs of these queues until the process is told to stop; then exits it.

    On Redis earlier queues go first.  Raises the process's niceness by
    ``background_process_niceness``, as Frappe's workers do.
    """
    os.nice(settings.background_process_niceness)
    if pool != "prefork":
        print(f"A {pool} pool cannot enforce timeouts: a job may run for ever.", file=sys.stderr)
    if settings.is_guest:  # the team's app, in a process of ours: it gets our worker's settings
        child.connect()
        app.steps["worker"].add(FinishReading)
        app.steps["consumer"].add(DropTimers)
        options = app.conf.broker_transport_options
        app.conf.update(worker_settings(settings))
        app.conf.broker_transport_options = options | app.conf.broker_transport_options
        for one in bench_queues(settings):
            app.amqp.queues.add(one)
    worker_ready.connect(_say_ready, weak=False)
    worker = app.Worker(
        hostname=nodename(f"{'+'.join(queues)}.{os.getpid()}", gethostname()),
        queues=[f"{settings.bench_id}:{queue}" for queue in queues],
        concurrency=concurrency,
        pool=pool,
        loglevel="WARNING" if quiet else "INFO",
        quiet=True,  # no banner: standard output is for what was asked for
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


def _say_ready(**_: object) -> None:
    # Celery has put its log in the place of sys.stderr by now.
    print("ready", file=sys.__stderr__, flush=True)
