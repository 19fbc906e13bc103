"""Our queue with the interface of RQ's, as far as Frappe's own enqueue and pages use it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any

import frappe
from frappe.utils import CallbackManager
from frappe.utils.background_jobs import execute_job

from frappe_jobs.dispatch import Options
from frappe_jobs.errors import BrokerUnavailable, FrappeJobsError
from frappe_jobs.frappe_bench.errors import QueueUnavailable, frappes_errors
from frappe_jobs.frappe_bench.host import bound
from frappe_jobs.frappe_bench.host.job_id import id_of, site_and_id
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq.at_commit import is_before_commit
from frappe_jobs.frappe_bench.rq.job import BenchJob, SyncJob, jobs
from frappe_jobs.frappe_bench.rq.rq_options import (
    RQS_OWN,
    function_of,
    given,
    kept,
    positional,
    seconds,
    taken_out,
)
from frappe_jobs.frappe_bench.rq.seam import ENQUEUE, MadeId
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, STARTED, Record
from frappe_jobs.message import Sending
from frappe_jobs.outbox.sending import TAKEN


class BenchQueue:
    """A queue of the bench, by Frappe's name for it."""

    #: How many jobs waited when that was last asked.
    _counted: int | None = None

    def __init__(self, name: str, is_async: bool = True) -> None:
        self._queue = name
        self.is_async = self._is_async = is_async

    @property
    def name(self) -> str:
        """As in Frappe, the bench's id before the queue."""
        return f"{runtime().settings.bench_id}:{self._queue}"

    @property
    def connection(self) -> Any:
        return runtime().ledger.redis

    def __len__(self) -> int:
        return self.count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BenchQueue) and self._queue == other._queue

    def __hash__(self) -> int:
        return hash(self._queue)

    # --- the jobs that wait

    @property
    def count(self) -> int:
        """Frappe's enqueue asks where ``max_queued_jobs`` is set; later versions always ask."""
        with frappes_errors():
            waiting = self._counted = runtime().ledger.waiting(self._queue)
        return waiting

    def is_empty(self) -> bool:
        return self.count == 0

    @property
    def jobs(self) -> list[BenchJob]:
        """The jobs that wait, of all sites, the next job first."""
        records = sorted(self._waiting(), key=lambda record: record.message.enqueued_at)
        return jobs(sorted(records, key=lambda record: not record.message.at_front))

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[BenchJob]:
        return self.jobs[offset : offset + length if length >= 0 else None]

    @property
    def job_ids(self) -> list[str]:
        return [job.id for job in self.jobs]

    def get_job_ids(self, offset: int = 0, length: int = -1, cleanup: bool = True) -> list[str]:
        """Their ids; a Frappe that takes it for a registry says whether to clean up."""
        return [job.id for job in self.get_jobs(offset, length)]

    def fetch_job(self, job_id: str) -> BenchJob | None:
        with frappes_errors():
            record = runtime().ledger.find(*site_and_id(job_id))
        return BenchJob(record) if record else None

    def empty(self) -> int:
        """Remove the jobs that wait, and their messages; gives how many."""
        here = runtime()
        messages = [record.message for record in self._waiting()]
        taken = here.jobs.cancel_waiting(messages, "purged")
        for message in taken:
            here.ledger.forget(message)
        return len(taken)

    def _waiting(self) -> list[Record]:
        here = runtime()
        return list(here.listing.waiting(here.host.sites(), [self._queue]))

    # --- its registries

    started_job_registry = property(lambda self: Registry(self._queue, STARTED))
    finished_job_registry = property(lambda self: Registry(self._queue, FINISHED))
    failed_job_registry = property(lambda self: Registry(self._queue, FAILED))
    canceled_job_registry = property(lambda self: Registry(self._queue, CANCELLED))
    deferred_job_registry = scheduled_job_registry = property(lambda self: Registry(self._queue))

    # --- enqueueing

    def enqueue_call(
        self,
        func: Callable[..., Any] | str,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: Any = None,
        at_front: bool = False,
        job_id: str | None = None,
        on_success: Any = None,
        on_failure: Any = None,
        **rqs: Any,
    ) -> BenchJob | SyncJob | None:
        """Send what Frappe's enqueue gives, or any function with keywords.

        None if Frappe's ``deduplicate`` looked the id up, and another process took it since then.
        RQ's ``retry`` and ``description`` work, its other options are named once in the log, and
        ``depends_on`` raises ArgumentError.
        """
        call = dict(kwargs or {})
        if not self.is_async:
            if is_before_commit():
                frappe.db.after_commit.add(partial(_run_here, func, args or (), call, job_id))
                return None
            return _run_here(func, args or (), call, job_id)
        if func not in (execute_job, BenchJob.func_name):  # later versions give its path
            call = {"method": func, "kwargs": call}
        sending = self.composed(
            call, args, timeout=timeout, at_front=at_front, job_id=job_id, on_success=on_success,
            on_failure=on_failure, **rqs,
        )  # fmt: skip
        if job_id and _looked_up() and _was_looked_up(site_and_id(job_id)[1]):
            sending = replace(sending, claim=True)
        with frappes_errors():
            job = _send(sending, self._just_counted())
        return job and BenchJob(job._record)

    def _just_counted(self) -> Mapping[str, int] | None:
        """What Frappe's enqueue has just asked, unless a commit makes its call, later."""
        if self._counted is None:
            return None
        caller = sys._getframe(2).f_back
        is_now = caller is not None and caller.f_code is ENQUEUE
        return {self._queue: self._counted} if is_now else None

    def composed(
        self,
        call: Mapping[str, Any],
        args: Any = None,
        *,
        timeout: Any = None,
        at_front: bool = False,
        job_id: str | None = None,
        on_success: Any = None,
        on_failure: Any = None,
        **rqs: Any,
    ) -> Sending:
        """What is sent for a call as Frappe's enqueue gives it: ``method``, ``kwargs``, ``user``, …

        Raises what the caller must mend.
        """
        method, arguments = call["method"], dict(call.get("kwargs") or {})
        positional(method, args, arguments)
        options: dict[str, Any] = {"job_name": call.get("job_name")}
        options |= given(rqs) | taken_out(method, arguments)
        if callable(method) and (parts := bound.split(method)):
            method, arguments[bound.SELF] = parts
        here, is_made = runtime(), isinstance(job_id, MadeId)
        message = here.dispatcher.compose(
            method,
            arguments,
            Options(
                queue=self._queue,
                timeout=seconds(timeout),
                event=call.get("event"),
                on_success=function_of(on_success),
                on_failure=kept(function_of(on_failure)),
                at_front=at_front,
                job_id=None if is_made or not job_id else site_and_id(job_id)[1],
                **options,
            ),
            here.host.require_current(),
            is_checked=False,
            message_id=site_and_id(job_id)[1] if is_made and job_id else None,
        )
        if (user := call.get("user")) and user != message.user:  # who enqueued it, not who commits
            message = replace(message, user=user)
        return Sending(message, replaces=bool(options.get("debounce")))

    def enqueue(self, f: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
        """RQ's short form: some keywords are options, the others are the function's."""
        options = {name: kwargs.pop(name) for name in RQS_OWN if name in kwargs}
        if "job_timeout" in options:
            options["timeout"] = options.pop("job_timeout")
        given_args, given_kwargs = kwargs.pop("args", args), kwargs.pop("kwargs", kwargs)
        return self.enqueue_call(f, given_args, given_kwargs, **options)


class Registry:
    """The jobs of a queue in a state; no jobs, if ours are never in it."""

    def __init__(self, queue: str, status: str | None = None) -> None:
        self._queue, self._status = queue, status

    def get_job_ids(
        self, start: int = 0, end: int = -1, desc: bool = True, cleanup: bool = True
    ) -> list[str]:
        """The ids of its jobs, latest first; there is nothing to clean up."""
        if self._status is None:
            return []
        here = runtime()
        found = here.listing.latest(here.host.sites(), [self._status], [self._queue])
        ids = [id_of(record.message.site, record.message.job_id) for record in found]
        return ids[start : end + 1 if end >= 0 else None]

    @property
    def count(self) -> int:
        return len(self.get_job_ids())

    def __len__(self) -> int:
        return self.count

    def __contains__(self, job: Any) -> bool:
        return getattr(job, "id", job) in self.get_job_ids()

    def remove(self, job: Any, pipeline: Any = None, delete_job: bool = False) -> None:
        """Forget the job if ``delete_job``; else do nothing: its record says where it is."""
        if delete_job:
            (job if isinstance(job, BenchJob) else BenchJob.fetch(job)).delete()

    def requeue(self, job: Any, at_front: bool = False) -> BenchJob:
        return (job if isinstance(job, BenchJob) else BenchJob.fetch(job)).requeue()


def require_broker() -> None:
    """Raise redis-py's ConnectionError if jobs cannot be sent: Frappe's migrate asks first."""
    here = runtime()
    here.ledger.redis.ping()
    try:
        here.broker.server()  # it need not be the Redis that keeps the records
    except BrokerUnavailable as error:
        raise QueueUnavailable(str(error)) from None


# --- Frappe's deduplicate first looks and then sends; here both become a single step


def note_look_up(job_id: str) -> None:
    """Note that Frappe's enqueue looks for a job of that id, and will send it if there is none."""
    frappe.local.frappe_jobs_looked_up = {*_looked_up(), job_id}


def _was_looked_up(job_id: str) -> bool:
    known = _looked_up()
    if job_id not in known:
        return False
    frappe.local.frappe_jobs_looked_up = known - {job_id}
    return True


def _looked_up() -> set[str]:
    return getattr(frappe.local, "frappe_jobs_looked_up", None) or set()


# --- sending; a tracked job with its record


def _send(sending: Sending, waiting: Mapping[str, int] | None) -> Any:
    """Send the job; None if its id was claimed and is taken.  Tracked jobs wait for the commit.

    None as well for a job that is put into the outbox, before the commit.
    """
    here, message = runtime(), sending.message
    if message.task_id is None and is_before_commit():
        return here.at_commit.send([sending], here.host.require_current())
    if message.task_id is None:
        return here.dispatcher.dispatch([sending], waiting=waiting)[0]
    if not _is_after_commit():
        return here.background_tasks.enqueue([sending], here.host.require_current())[0]
    # In Frappe's enqueue_after_commit nothing commits what is written from here on.
    if sending.claim and here.ledger.is_taken(message):
        return None
    here.tracking.requeued(message)
    try:
        [job] = here.dispatcher.dispatch([sending])
    except FrappeJobsError as error:
        here.tracking.never_sent(message, error)
        raise
    if job is None:
        here.tracking.never_sent(message, TAKEN)
    return job


def _is_after_commit() -> bool:
    """Whether this is called by a callback of the open transaction's commit."""
    frame: FrameType | None = sys._getframe()
    while frame := frame and frame.f_back:
        is_of_callbacks = frame.f_code is CallbackManager.run.__code__
        if is_of_callbacks and frame.f_locals.get("self") is frappe.db.after_commit:
            return True
    return False


# --- what Frappe's callbacks do


def keep_few_failed_jobs(*_: Any) -> None:
    """Forget the open site's oldest failed jobs over its own limit, for each queue.

    A callback for a failed job, with RQ's signature.
    """
    here, limit = runtime(), int(frappe.conf.get("rq_failed_jobs_limit") or 0)
    for queue in here.settings.queues if limit else ():
        failed = here.listing.latest([frappe.local.site], [FAILED], [queue])
        for record in islice(failed, limit, None):
            here.ledger.forget(record.message)


def _run_here(
    func: Callable[..., Any] | str, args: Sequence[Any], call: dict[str, Any], job_id: str | None
) -> SyncJob:
    """For Frappe's tests (``is_async=False``): as with RQ, an error stays in the job."""
    function = frappe.get_attr(func) if isinstance(func, str) else func
    try:
        return SyncJob(job_id or "", function(*args, **call), None)
    except Exception:
        return SyncJob(job_id or "", None, sys.exc_info()[1])
