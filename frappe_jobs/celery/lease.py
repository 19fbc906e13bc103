"""Leases: a job is its worker's as long as the worker's parent says so, every few seconds.

A broker may hand a message to a second worker at any time; that worker finds the lease alive.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.held import running
from frappe_jobs.celery.log_format import about_request
from frappe_jobs.celery.processes import end, send_signal
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.runtime import Runtime

logger = logging.getLogger(__name__)

#: Seconds between two looks for the messages of workers that are gone.
TAKE_BACK = 5.0


#: Seconds within which a process puts back a message that another process runs.
PUT_BACK = 5.0

#: Tells this worker from others: two containers may have the same host name and process ids.  Its
#: processes are forked, and have the same value.
IDENTITY = uuid4().hex[:8]


#: In a request, for its process: which of the messages that came to this worker it is.
DELIVERY = "frappe_jobs_delivery"


def holder(hostname: str, delivery: object, pid: int) -> str:
    """The name of a lease's holder: a process of a worker, with one message that came to it.

    The same message may come to a worker twice, and to the same process where it runs threads.
    """
    return f"{hostname}/{IDENTITY}.{delivery}/{pid}"


class LeaseKeeper(ConsumerStep):
    """Renews the leases of what this worker runs, and looks for what dead workers left (Redis)."""

    def start(self, consumer: Any) -> None:
        runtime = runtime_of(consumer.app)
        _keep(runtime)
        unacked = str(getattr(consumer.task_consumer.channel, "unacked_key", ""))
        if unacked.startswith(runtime.settings.prefix):  # Redis, and not a team's own messages
            # kombu itself looks only every 100 seconds.
            consumer.timer.call_repeatedly(TAKE_BACK, _take_back, (consumer,))


_keeper: Keeper | None = None


def _keep(runtime: Runtime) -> None:
    """Keep leases until this process ends, also while it reconnects and shuts down."""
    global _keeper
    if _keeper is None:
        _keeper = Keeper(runtime)
        _keeper.start()


class Keeper:
    """Renews leases, and kills the processes whose leases could not be renewed for half their time.

    In two threads.  The first speaks to Redis on a connection of its own, as the worker's may be
    busy or away.  The second only watches the clock, so no silent server, lost network or hanging
    library can stop it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._ledger = runtime.make_ledger()
        self._lease = runtime.settings.lease
        #: When each request's lease was last renewed; both threads only set whole values.
        self._renewed: dict[Any, float] = {}
        self._killed: set[tuple[str, int]] = set()
        #: The requests that had their lease, and since when others have found it taken.
        self._ours: set[Any] = set()
        self._refused: dict[Any, float] = {}

    def start(self) -> None:
        for work, pause in ((self._renew, self._lease / 6), (self._watch, self._lease / 24)):
            threading.Thread(
                target=_for_ever, args=(work, pause), daemon=True, name="leases"
            ).start()

    def _renew(self) -> None:
        requests = running()
        if not requests:
            return
        asked = time.monotonic()  # the lease lasts from then on, however late the answer comes
        pairs = [(request.id, request.holder) for request in requests]
        try:
            lost = self._ledger.renew(pairs)
        except BrokerUnavailable as error:
            logger.error("the leases cannot be renewed: %s", error)
        else:
            theirs = {request: lost[pair] for request, pair in zip(requests, pairs, strict=True)
                      if pair in lost}  # fmt: skip
            self._renewed.update(dict.fromkeys({*requests} - theirs.keys(), asked))
            self._end_those_that_lost(requests, theirs)
        for request in requests:
            request.enforce_time_limits()

    def _end_those_that_lost(self, requests: Sequence[Any], theirs: Mapping[Any, bool]) -> None:
        """Kill requests whose leases another process has, if the lease was theirs before.

        Any other is a message that came twice: its process is about to put it back.
        """
        self._ours = (self._ours & {*requests}) | ({*requests} - theirs.keys())
        now = time.monotonic()
        self._refused = {request: self._refused.get(request, now) for request in theirs}
        self._kill(
            request for request, has_begun in theirs.items()
            if has_begun or request in self._ours or now - self._refused[request] > PUT_BACK
        )  # fmt: skip

    def _watch(self) -> None:
        requests = running()
        now = time.monotonic()
        for gone in self._renewed.keys() - set(requests):
            self._renewed.pop(gone, None)
        since = {request: self._renewed.setdefault(request, now) for request in requests}
        self._kill(request for request in requests if now - since[request] > self._lease / 2)

    def _kill(self, requests: Iterable[Any]) -> None:
        """Only once: later another process may have that id."""
        pairs = {(request.id, request.worker_pid): request for request in requests}
        overdue = {pair: pairs[pair] for pair in pairs.keys() - self._killed}
        self._killed |= overdue.keys()
        for (message_id, pid), request in overdue.items():
            text = "process %s is killed: the lease of message %s is lost"
            with about_request(request):
                logger.error(text, pid, message_id)
            if pid != os.getpid():  # a pool of threads cannot be killed
                send_signal(pid, signal.SIGSTOP)  # stop all of them now: ending one takes time
        for (_, pid), request in overdue.items():
            end(pid, request.time_start)


def _for_ever(work: Callable[[], None], seconds: float) -> None:
    pause = threading.Event()
    while not pause.wait(seconds):
        try:
            work()
        except Exception:  # whatever went wrong must not end this thread
            logger.exception("the leases are not kept as they should be")


def _take_back(consumer: Any) -> None:
    """Put back what dead workers held, and keep what this worker holds."""
    channel = consumer.task_consumer.channel
    try:
        now = time.time()
        if held := {tag: now for tag in list(channel.qos._delivered)}:
            with channel.conn_or_acquire() as client:
                client.zadd(channel.unacked_index_key, held, xx=True)
        channel.qos.restore_visible(num=1000, interval=1)
    except consumer.connection_errors:  # the consumer finds out by itself, and reconnects
        logger.debug("what dead workers held was not looked for", exc_info=True)
