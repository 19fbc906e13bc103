"""Leases: a job is its worker's as long as the worker's parent says so, every few seconds.

A broker may hand a message to a second worker at any time; that one finds the lease alive.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any
from uuid import uuid4

from celery import bootsteps

from frappe_jobs.celery.child import send_signal
from frappe_jobs.celery.composition import runtime_of
from frappe_jobs.celery.held import running
from frappe_jobs.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

#: Seconds between two looks for the messages of workers that are gone.
TAKE_BACK = 5.0


#: This worker among those of its name whose processes have the same numbers: two containers may
#: have one host name, each its own processes.  Its processes are forked, and have it as well.
IDENTITY = uuid4().hex[:8]


def holder(hostname: str, pid: int) -> str:
    """Who holds a lease: a process of a worker."""
    return f"{hostname}/{IDENTITY}/{pid}"


class LeaseKeeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """Renews the leases of what this worker runs, and looks for what dead workers left (Redis)."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        runtime = runtime_of(consumer.app)
        _keep(runtime, consumer.hostname)
        unacked = str(getattr(consumer.task_consumer.channel, "unacked_key", ""))
        if unacked.startswith(runtime.settings.prefix):  # Redis, and not a team's own messages
            # kombu's own pace is a look every 100 seconds.
            consumer.timer.call_repeatedly(TAKE_BACK, _take_back, (consumer,))


_keeper: threading.Thread | None = None


def _keep(runtime: Any, hostname: str) -> None:
    """Renew from a thread and a connection of their own: the worker's may be busy, or away.

    The thread goes on while the worker reconnects and while it shuts down.
    """
    global _keeper
    if _keeper is None:
        _keeper = threading.Thread(
            target=_renew, args=(runtime, hostname), daemon=True, name="leases"
        )
        _keeper.start()


def _renew(runtime: Any, hostname: str) -> None:
    """Renew for ever; kill the processes whose leases cannot be renewed for half their time."""
    ledger, lease = runtime.make_ledger(), runtime.settings.lease
    pause = threading.Event()
    renewed: dict[str, float] = {}  # when, by message id
    while not pause.wait(lease / 6):
        requests = {request.id: request for request in running()}
        now = time.monotonic()
        renewed = {one: renewed.get(one, now) for one in requests}
        lost: set[str] = set()
        try:
            if requests:
                holders = {one: holder(hostname, r.worker_pid) for one, r in requests.items()}
                lost = ledger.renew(holders)
            renewed.update(dict.fromkeys(requests, time.monotonic()))
        except BrokerUnavailable as error:
            logger.error("the leases cannot be renewed: %s", error)
        except Exception:  # whatever it is, it must not end the renewing
            logger.exception("the leases cannot be renewed")
        for one, since in renewed.items():
            if one in lost or time.monotonic() - since > lease / 2:
                _kill(one, requests[one].worker_pid)
            else:
                requests[one].enforce_time_limits()


def _kill(message_id: str, pid: int) -> None:
    logger.error("process %s is killed: the lease of message %s is lost", pid, message_id)
    if pid != os.getpid():  # a pool of threads cannot be killed
        send_signal(pid, signal.SIGKILL)


def _take_back(consumer: Any) -> None:
    """Put back what workers held that are gone, and keep what this one holds."""
    channel = consumer.task_consumer.channel
    try:
        now = time.time()
        if held := {tag: now for tag in list(channel.qos._delivered)}:
            with channel.conn_or_acquire() as client:
                client.zadd(channel.unacked_index_key, held, xx=True)
        channel.qos.restore_visible(num=1000, interval=1)
    except consumer.connection_errors:  # the consumer finds out by itself, and reconnects
        logger.debug("no look for what dead workers left", exc_info=True)
