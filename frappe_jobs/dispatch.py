"""From a call to the broker: a job is checked, becomes a message, and is sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import FunctionType
from typing import Any

from frappe_jobs.brokers.base import Broker
from frappe_jobs.config import Settings
from frappe_jobs.errors import (
    ArgumentError,
    BrokerError,
    BrokerUnavailable,
    MessageTooLarge,
    QueueOverloaded,
)
from frappe_jobs.host.port import Host
from frappe_jobs.host.session import Session
from frappe_jobs.job import Job, Jobs
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import QUEUED
from frappe_jobs.message import Message, Retry, Sending, new_id
from frappe_jobs.methods import as_path
from frappe_jobs.texts.error_text import safe
from frappe_jobs.texts.moments import expiry
from frappe_jobs.tracing import trace_here
from frappe_jobs.values import quick

#: Why a job was cancelled whose place another one took.
REPLACED = "replaced by a later call with its job_id"

#: With more waiting jobs than these, at_front_when_starved puts a job at the front.
STARVED = 16

#: How a caller says when it is too late to begin a job: seconds from now, or a time with a zone.
Expiry = float | timedelta | datetime | None


@quick
@dataclass(frozen=True)
class Options:
    """What a caller may say about a job besides its method and arguments; Frappe's names."""

    #: None: ``default``; for a Celery task, what its own app's routes say.
    queue: str | None = None
    timeout: int | None = None
    event: str | None = None
    job_name: str | None = None
    on_success: Callable[..., Any] | str | None = None
    on_failure: Callable[..., Any] | str | None = None
    at_front: bool = False
    at_front_when_starved: bool = False
    job_id: str | None = None
    deduplicate: bool = False
    track_job: bool = False
    retry: int | Retry | None = None
    enqueue_after_commit: bool = False
    debounce: bool = False
    concurrency_key: str | None = None
    expires: Expiry = None


@dataclass
class Batch:
    """What is found out once for all jobs of a call."""

    #: Redis's time.
    now: Callable[[], float]
    #: What is open.
    session: Callable[[], Session]
    #: By function or dotted path: the path, and the method there.
    methods: dict[Callable[..., Any] | str, tuple[str, Callable[..., Any]]] = field(
        default_factory=dict
    )
    trace: Mapping[str, str] | None = field(default_factory=trace_here)


class Dispatcher:
    """The one door to the broker, for callers and for the scheduler."""

    def __init__(
        self, settings: Settings, host: Host, broker: Broker, ledger: Ledger, jobs: Jobs
    ) -> None:
        self._settings, self._host = settings, host
        self._broker, self._ledger, self._jobs = broker, ledger, jobs

    def compose(
        self,
        method: Callable[..., Any] | str,
        arguments: Mapping[str, Any],
        options: Options,
        session: Session,
        *,
        is_checked: bool = True,
        batch: Batch | None = None,
        message_id: str | None = None,
    ) -> Message:
        """Check the job and make its message; nothing is sent.

        Raises what the caller must mend: UnknownQueue, ArgumentError, MethodNotFound, ….  Unless
        ``is_checked``, only the worker finds out that there is no such method, or that it takes
        other arguments.  ``batch``: the call of which this is one.  ``message_id``: a UUID that no
        other message has, where one was made already.
        """
        queue, site = self._settings.queue(options.queue), session.site
        if is_checked:
            path, found = self._find(method, site, batch)
            self._host.methods.check(found, path, arguments, site)
        else:
            path = as_path(method)
        if options.deduplicate and not options.job_id:
            raise ArgumentError("deduplicate=True needs a job_id: it says what is the same job.")
        if options.debounce and not options.job_id:
            raise ArgumentError("debounce=True needs a job_id: it says what is the same job.")
        if options.debounce and options.deduplicate:
            raise ArgumentError(
                "Either deduplicate=True or debounce=True: the first job of an id stays, or the "
                "last one."
            )
        message_id = message_id or new_id()
        job_id = _text("job_id", options.job_id)
        message = Message(
            id=message_id, job_id=self._host.job_id(job_id) if job_id else message_id,
            site=site, user=session.user, method=path,
            arguments=self._host.arguments.encode(arguments), queue=queue.name,
            name=_text("job_name", options.job_name) or path,
            timeout=_timeout(options.timeout) or queue.timeout, enqueued_at=time.time(),
            event=_text("event", options.event),
            at_front=bool(options.at_front) or self._starved(options, queue.name),
            on_success=self._callback(options.on_success, site),
            on_failure=self._callback(options.on_failure, site),
            retry=_retry(options.retry), task_id=message_id if options.track_job else None,
            concurrency_key=_text("concurrency_key", options.concurrency_key),
            expires_at=expiry(options.expires, batch.now if batch else self._ledger.now),
            trace=batch.trace if batch else trace_here(),
        )  # fmt: skip
        limit = self._settings.max_message_size
        if (size := len(message.header_json) + len(message.arguments_json)) > limit:
            raise MessageTooLarge(
                f"{path} with these arguments makes a message of {size} bytes; "
                f"'frappe_jobs_max_message_size' allows {limit}. Send a name instead of the data."
            )
        return message

    def _find(
        self, method: Callable[..., Any] | str, site: str, batch: Batch | None
    ) -> tuple[str, Callable[..., Any]]:
        known = batch.methods if batch and isinstance(method, (str, FunctionType)) else None
        if known is not None and method in known:
            return known[method]
        path = as_path(method)
        found = path, self._host.methods.resolve(path, site)
        if known is not None:
            known[method] = found
        return found

    def dispatch(
        self, sendings: Sequence[Sending], *, waiting: Mapping[str, int] | None = None
    ) -> list[Job | None]:
        """Send the messages now, in order.  ``waiting``: jobs by queue, where somebody just asked.

        None for a sending that claims a job id which is taken.  Raises QueueOverloaded, and nothing
        is sent; or BrokerUnavailable or NotSupportedByBroker, whose ``details["sent"]`` are the
        jobs that were sent.
        """
        self.refuse_overload(sendings, waiting)
        replaced = self._waiting_ones(sendings)
        try:
            published = self._broker.publish(sendings, self._ledger)
        except BrokerError as error:
            sent = {message.id: message for message in error.details.get("sent", ())}
            unsent = [sending for sending in sendings if sending.message.id not in sent]
            self._call_off(unsent, error)
            raise error.about(sent=[*map(self._jobs.waiting, sent.values())]) from None
        if replaced:
            with suppress(BrokerUnavailable):  # else the worker that gets it drops it
                self._jobs.cancel_waiting(replaced, REPLACED)
        return [
            self._jobs.waiting(sending.message, due=sending.at) if went else None
            for sending, went in zip(sendings, published, strict=True)
        ]

    def _waiting_ones(self, sendings: Sequence[Sending]) -> list[Message]:
        """The messages whose place these take: the step that records these sees to it."""
        found = [
            self._ledger.find(sending.message.site, sending.message.job_id)
            for sending in sendings
            if sending.replaces
        ]
        return [record.message for record in found if record and record.status == QUEUED]

    def _call_off(self, sendings: Sequence[Sending], error: BrokerError) -> None:
        """End the jobs that could not be sent; a message that arrived all the same is dropped.

        Jobs of a site's outbox are not ended: they are sent from there.  Nor are scheduled jobs
        while the broker is away: no caller could be told, and the sweep sends them.
        """
        away = isinstance(error, BrokerUnavailable)
        lost = [sending for sending in sendings if not (sending.has_row or away and sending.due)]
        messages = [sending.message for sending in lost]
        if not messages:
            return
        reason = f"never sent: the broker {'was out of reach' if away else 'refused the queue'}"
        try:
            self._ledger.cancel(messages, reason, waiting_only=True)
        except BrokerUnavailable:  # then there is no record, or the sweep finds it
            pass

    def refuse_overload(
        self, sendings: Sequence[Sending], waiting: Mapping[str, int] | None = None
    ) -> None:
        """Raise QueueOverloaded where a queue would hold more than ``max_queued_jobs``."""
        if not (limit := self._settings.max_queued_jobs):
            return
        now, known = [sending for sending in sendings if sending.at is None], waiting or {}
        for queue, count in Counter(sending.message.queue for sending in now).items():
            there = known[queue] if queue in known else self._ledger.waiting(queue)
            if there + count > limit:
                raise QueueOverloaded(
                    f"'max_queued_jobs' is {limit}, so {queue!r} takes no {count} more jobs now."
                )

    def send_task(self, task: Any, arguments: Mapping[str, Any], options: Options) -> Any:
        """Send a Celery task as it is; gives Celery's AsyncResult.

        Raises ArgumentError for an option that only jobs have, UnknownQueue, BrokerUnavailable.
        """
        taken = Options(queue=options.queue, timeout=options.timeout, at_front=options.at_front)
        if options != taken:
            raise ArgumentError(
                f"{task.name} is a Celery task and is sent as itself: of enqueue's options it "
                "takes queue, timeout and at_front."
            )
        queue = None if options.queue is None else self._settings.queue(options.queue)
        timeout = _timeout(options.timeout) or (queue.timeout if queue else None)
        limits = (timeout, timeout + self._settings.timeout_grace) if timeout else None
        name, at_front = queue.name if queue else None, options.at_front
        return self._broker.send_task(
            task, arguments, queue=name, at_front=at_front, time_limits=limits
        )

    def _callback(self, callback: Callable[..., Any] | str | None, site: str) -> str | None:
        if callback is None:
            return None
        path = as_path(callback)
        self._host.methods.resolve(path, site)
        return path

    def _starved(self, options: Options, queue: str) -> bool:
        return options.at_front_when_starved and self._ledger.waiting(queue) > STARVED


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value and safe(value)
    raise ArgumentError(f"{name} must be a text; not {value!r}.")


def _timeout(value: object) -> int | None:
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"timeout must be a whole number of seconds, 1 or more; not {value!r}.")
    return value


def _retry(value: object) -> Retry | None:
    if value is None or isinstance(value, Retry):
        return value
    if value == 0 and not isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Retry(value)
    raise ArgumentError(f"retry must be a whole number or a Retry; not {value!r}.")
