"""Leases: a job is its worker's as long as the worker's parent says so, every few seconds.

A broker may hand a message to a second worker at any time; that one finds the lease alive.
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

from celery import bootsteps

from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.held import running
from frappe_jobs.celery.processes import end, send_signal
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.runtime import Runtime

logger = logging.getLogger(__name__)

#: Seconds between two looks for the messages of workers that are gone.
TAKE_BACK = 5.0


#: Seconds within which a process puts back a message that somebody else runs.
PUT_BACK = 5.0

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


_keeper: Keeper | None = None


def _keep(runtime: Runtime, hostname: str) -> None:
    """From now on until this process ends, also while it reconnects and while it shuts down."""
    global _keeper
    if _keeper is None:
        _keeper = Keeper(runtime, hostname)
        _keeper.start()


class Keeper:
    """Renews leases, and kills the processes whose leases could not be renewed for half their time.

    In two threads: one speaks to Redis, on a connection of its own, as the worker's may be busy or
    away.  The other one watches the clock and waits for nothing else: what no server answers, no
    network carries, or a library never gives back cannot stop it.
    """

    def __init__(self, runtime: Runtime, hostname: str) -> None:
        self._ledger, self._hostname = runtime.make_ledger(), hostname
        self._lease = runtime.settings.lease
        #: When the lease of each request was renewed last; both threads only ever set whole values.
        self._renewed: dict[Any, float] = {}
        self._killed: set[tuple[str, int]] = set()
        #: Those that had the lease, and since when others are here whose lease is somebody else's.
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
        pairs = [(one.id, holder(self._hostname, one.worker_pid)) for one in requests]
        try:
            lost = self._ledger.renew(pairs)
        except BrokerUnavailable as error:
            logger.error("the leases cannot be renewed: %s", error)
        else:
            theirs = {one: lost[pair] for one, pair in zip(requests, pairs, strict=True)
                      if pair in lost}  # fmt: skip
            self._renewed.update(
                dict.fromkeys((one for one in requests if one not in theirs), asked)
            )
            self._end_those_that_lost(requests, theirs)
        for request in requests:
            request.enforce_time_limits()

    def _end_those_that_lost(self, requests: Sequence[Any], theirs: Mapping[Any, bool]) -> None:
        """Of the requests whose leases are somebody else's, those whose own they were.

        Another one is a message that came twice: its process is about to put it back.
        """
        self._ours = {one for one in requests if one in self._ours or one not in theirs}
        now = time.monotonic()
        self._refused = {one: self._refused.get(one, now) for one in theirs}
        self._kill(
            one for one, has_begun in theirs.items()
            if has_begun or one in self._ours or now - self._refused[one] > PUT_BACK
        )  # fmt: skip

    def _watch(self) -> None:
        requests = running()
        now = time.monotonic()
        for gone in self._renewed.keys() - set(requests):
            self._renewed.pop(gone, None)
        self._kill(
            one for one in requests if now - self._renewed.setdefault(one, now) > self._lease / 2
        )

    def _kill(self, requests: Iterable[Any]) -> None:
        """Once, for afterwards another process may have that id."""
        pairs = {(one.id, one.worker_pid): one for one in requests}
        overdue = {pair: pairs[pair] for pair in pairs.keys() - self._killed}
        self._killed |= overdue.keys()
        for message_id, pid in overdue:
            logger.error("process %s is killed: the lease of message %s is lost", pid, message_id)
            if pid != os.getpid():  # a pool of threads cannot be killed
                send_signal(pid, signal.SIGSTOP)  # all of them now: an end may take seconds
        for (_, pid), one in overdue.items():
            end(pid, one.time_start)


def _for_ever(work: Callable[[], None], seconds: float) -> None:
    pause = threading.Event()
    while not pause.wait(seconds):
        try:
            work()
        except Exception:  # whatever it is, it must not end the keeping
            logger.exception("the leases are not kept as they should be")


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
