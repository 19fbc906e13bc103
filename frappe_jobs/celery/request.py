"""A job in the worker's parent, which writes the end that a killed process cannot write."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial, wraps
from itertools import count
from typing import Any, TypeVar

from billiard.einfo import ExceptionWithTraceback
from celery import Celery, Task
from celery.exceptions import Ignore, InvalidTaskError, Terminated, WorkerLostError
from celery.worker.request import Request
from celery.worker.strategy import default

from frappe_jobs.celery.ahead import taken_ahead
from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.fault import fault_of_job
from frappe_jobs.celery.lease import DELIVERY, holder
from frappe_jobs.celery.log_format import about, about_request
from frappe_jobs.celery.processes import end, end_orphans, send_signal
from frappe_jobs.celery.stopping import stopping
from frappe_jobs.celery.transport import losses
from frappe_jobs.celery.transport.take import is_ahead
from frappe_jobs.errors import BadMessage, BrokerUnavailable
from frappe_jobs.execute import EXPIRED
from frappe_jobs.ledger.record import CANCELLED
from frappe_jobs.message import HEADER, Message
from frappe_jobs.runtime import Runtime

Method = TypeVar("Method", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

#: The reason of a job that was revoked by Flower or ``celery control revoke``.
REVOKED = "revoked by Celery"

#: Seconds between two attempts to write down what became of a job.
PAUSE = 1.0

#: How Celery's remote control spells it.
KILLING = ("SIGKILL", "KILL", signal.SIGKILL)

#: Seconds that Celery's own timers have before we enforce a time limit ourselves.
OVERDUE = 5.0


#: Numbers what comes to this worker.
_deliveries = count(1)


class NoJob(InvalidTaskError):  # type: ignore[misc]
    """A message names our task, but we would not have sent it."""


def only_jobs(task: Task, app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's strategy for our task, after a check that comes before the message is decoded.

    A team's app may accept pickle and embeds for its own tasks; ours takes only jobs.
    """
    handle = default(task, app, consumer, **options)
    settings = runtime_of(app).in_force
    JobRequest.timer = consumer.timer

    def on_message(message: Any, *arguments: Any, **rest: Any) -> Any:
        if fault := fault_of_job(message, settings):
            raise NoJob(fault)
        with about(message.headers.get(HEADER)):
            return handle(message, *arguments, **rest)

    return on_message


class SafeRequest(Request):  # type: ignore[misc]
    """A message in the worker's parent, acknowledged even if handling its failure fails."""

    def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
        """An embed that cannot be sent, or a result that cannot be written, must not block it."""
        try:
            return super().on_failure(exc_info, *arguments, **options)
        except losses(*self.connection_errors):
            raise
        except Exception:
            logger.exception("what follows the failure of %s could not be done", self.name)
            self.acknowledge()


def told(method: Method) -> Method:
    """What is logged meanwhile belongs to that request's job."""

    @wraps(method)
    def call(self: JobRequest, *arguments: Any, **options: Any) -> Any:
        with about_request(self):
            return method(self, *arguments, **options)

    return call  # type: ignore[return-value]


class JobRequest(SafeRequest):
    """A message of ours in the worker's parent."""

    #: The worker's.
    timer: Any = None

    time_limits: tuple[float | None, float | None]  # Celery's own

    _was_told = _was_killed = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._request_dict[DELIVERY] = next(_deliveries)
        # Its process gets what was decoded here, once.
        self._body, self._content_type, self._content_encoding = self._payload, None, None
        del self._request_dict["args"], self._request_dict["kwargs"]
        if not any(self.time_limits):  # not sent by us
            timeout = self._request_dict[HEADER]["timeout"]
            self.time_limits = timeout + runtime_of(self._app).settings.timeout_grace, timeout
        if is_ahead(self.message):
            taken_ahead.note(self, self.timer)

    @told
    def on_timeout(self, soft: bool, timeout: float) -> None:
        """At the hard limit the process is killed, so only the parent can write the end."""
        if soft:
            self._was_told = True
        else:
            end(self.worker_pid, self.time_start)
            self._end(f"timed out after {self.time_limits[1]} s and was killed")
        super().on_timeout(soft, timeout)

    @told
    def terminate(self, pool: Any, signal: Any = None) -> None:
        """If it is killed, kill what the job has started, too; our processes ignore SIGTERM."""
        if self.time_start and signal in KILLING:
            end(self.worker_pid, self.time_start)
        super().terminate(pool, signal)

    @told
    def enforce_time_limits(self) -> None:
        """Do what Celery's timers should have done some seconds ago.

        They are lost when the broker goes away, and stand still until it is back.
        """
        if not self.time_start or not any(self.time_limits):
            return
        if self.worker_pid == os.getpid():  # a pool of threads cannot be killed
            return
        hard, soft = self.time_limits
        overdue = time.time() - self.time_start - OVERDUE
        if hard and overdue > hard:
            if self._was_killed:  # by now another process may have that id
                return
            self._was_killed = True
            end(self.worker_pid, self.time_start)
            self._end(f"timed out after {soft} s and was killed")
        elif soft and overdue > soft and not self._was_told:
            self._was_told = True
            send_signal(self.worker_pid, signal.SIGUSR1)  # as billiard does

    @told
    def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # as billiard wraps it on its way here
            error = error.exc
        if isinstance(error, (WorkerLostError, Terminated)):
            self._note_loss(is_terminated=isinstance(error, Terminated))
        if isinstance(error, Ignore) and error.args == (EXPIRED,):  # as Celery says it of its own
            self.send_event("task-revoked", terminated=False, signum=None, expired=True)
        return super().on_failure(exc_info, *arguments, **options)

    @told
    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """It was revoked, so Celery drops the message; the job is cancelled before that.

        Until that is written the message stays here: else the job would count as lost, and run.
        """
        if not terminated:
            try:
                runtime_of(self._app).cancel_from_outside([self.id], REVOKED)
            except BrokerUnavailable as error:
                logger.error("%s is revoked, which cannot be written yet: %s", self.name, error)
                again = (reason, terminated, signum, expired)
                self.timer.call_after(PAUSE, self._announce_revoked, again)
                return
        super()._announce_revoked(reason, terminated, signum, expired)

    def _note_loss(self, is_terminated: bool) -> None:
        """The process is gone; without this its lease runs out by itself."""
        if self.worker_pid:
            end_orphans(self.worker_pid, self.time_start)

        def note(runtime: Runtime, message: Message) -> None:
            if is_terminated:  # by a revoke; Celery drops the message
                reason = "terminated by Celery"
                runtime.end_from_outside(message, CANCELLED, reason, self.holder)
            elif self.holder:  # the message comes back at once
                ledger = runtime.ledger
                give_up = ledger.hand_back if stopping.handing_back else ledger.release
                give_up(message, self.holder)

        self._write(note)

    def _end(self, reason: str) -> None:
        """Write its end; twice does no harm, as only a job's first end counts."""
        self._write(lambda runtime, message: runtime.killed(message, reason, self.holder))

    @property
    def holder(self) -> str | None:
        """This run's holder, None before it is with a process.

        If the job now runs elsewhere, this run may not end it.
        """
        if not self.worker_pid:
            return None
        return holder(self.hostname, self._request_dict[DELIVERY], self.worker_pid)

    def _write(self, note: Callable[[Any, Message], None]) -> None:
        """Write to the ledger; if it is out of reach, a thread tries on and the worker goes on."""
        try:
            message = Message.from_wire(self._request_dict.get(HEADER), self.args[0])
        except (BadMessage, IndexError):
            return
        call = partial(note, runtime_of(self._app), message)
        try:
            call()
        except BrokerUnavailable as error:
            logger.error("what became of %s cannot be written yet: %s", self.name, error)
            threading.Thread(target=_insist, args=(call,), daemon=True, name="end").start()
        except Exception:
            logger.exception("what became of %s cannot be written", self.name)


def _insist(call: Callable[[], object]) -> None:
    """Call it until the ledger takes it."""
    pause = threading.Event()
    while not pause.wait(PAUSE):
        try:
            call()
        except BrokerUnavailable as error:
            logger.debug("not yet: %s", error)
        except Exception:  # nothing else would log it
            logger.exception("what became of a job cannot be written")
            return
        else:
            return
