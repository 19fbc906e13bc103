"""Our job with the interface of RQ's, for Frappe and the apps written for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import frappe
import rq.job
from frappe.utils.background_jobs import execute_job
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import JobStatus

from frappe_jobs.current import current_job
from frappe_jobs.errors import JobError
from frappe_jobs.frappe_bench.host import bound
from frappe_jobs.frappe_bench.host.job_id import id_of, site_and_id
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, QUEUED, STARTED, Record

STATUSES = {
    QUEUED: JobStatus.QUEUED,
    STARTED: JobStatus.STARTED,
    FINISHED: JobStatus.FINISHED,
    FAILED: JobStatus.FAILED,
    CANCELLED: JobStatus.CANCELED,
}


def _is(status: JobStatus) -> property:
    return property(lambda self: self.get_status() == status)


class BenchJob:
    """A job that looks like RQ's; its record is as it was when it was last read."""

    args = ()
    func = staticmethod(execute_job)
    func_name = "frappe.utils.background_jobs.execute_job"
    ttl = None
    is_deferred = is_scheduled = False
    dependency = None
    last_heartbeat = None

    def __init__(self, record: Record) -> None:
        self._record = record
        #: What an app keeps on its job; it stays in this process.
        self.meta: dict[str, Any] = {}

    # --- its identity

    @property
    def id(self) -> str:
        return id_of(self._record.message.site, self._record.message.job_id)

    def get_id(self) -> str:
        return self.id

    @property
    def task_id(self) -> str | None:
        """The name of its Background Task; None if it is not tracked."""
        return self._record.message.task_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.description}>"

    @classmethod
    def fetch(cls, id: str, connection: Any = None, serializer: Any = None) -> BenchJob:
        """The newest job of that id; raises RQ's NoSuchJobError."""
        record = runtime().ledger.find(*site_and_id(id))
        if record is None:
            raise NoSuchJobError(f"No such job: {id}")
        return cls(record)

    @classmethod
    def fetch_many(
        cls, job_ids: Iterable[str], connection: Any = None, serializer: Any = None
    ) -> list[BenchJob | None]:
        """For each id its newest job, or None."""
        found = [runtime().ledger.find(*site_and_id(job_id)) for job_id in job_ids]
        return [None if record is None else cls(record) for record in found]

    @classmethod
    def exists(cls, job_id: str, connection: Any = None) -> bool:
        return runtime().ledger.find(*site_and_id(job_id)) is not None

    # --- what it is

    @property
    def kwargs(self) -> dict[str, Any]:
        """As Frappe's enqueue gives them to RQ."""
        message = self._record.message
        return {
            "site": message.site,
            "user": message.user,
            "method": message.method,
            "event": message.event,
            "job_name": message.name,
            "is_async": True,
            "kwargs": self._arguments(),
        }

    _kwargs = kwargs

    def _arguments(self) -> dict[str, Any]:
        sent = bound.for_people(self._record.message.arguments)
        try:
            found: dict[str, Any] = runtime().host.arguments.decode(sent)
        except Exception:  # a document of another site, or of a doctype that is gone
            return sent
        return found

    origin = property(lambda self: f"{runtime().settings.bench_id}:{self._record.message.queue}")
    description = property(lambda self: self._record.message.name)
    timeout = property(lambda self: self._record.message.timeout)

    @property
    def failure_ttl(self) -> int:
        return int(frappe.conf.get("rq_job_failure_ttl") or runtime().settings.job_failure_ttl)

    @property
    def result_ttl(self) -> int:
        return int(frappe.conf.get("rq_results_ttl") or runtime().settings.results_ttl)

    @property
    def retries_left(self) -> int | None:
        """How often it is run again if it fails; None if it has no ``retry``, as with RQ."""
        if self._record.message.retry is None:
            return None
        here = current_job()
        is_this = here is not None and here.message.id == self._record.message.id
        return here.retries.left if here and is_this else self._record.message.retry.max

    @retries_left.setter
    def retries_left(self, left: int) -> None:
        """Inside the job: how often it is still run again; 0 ends that."""
        here = current_job()
        if here is not None and here.message.id == self._record.message.id:
            here.retries.left = left

    connection = property(lambda self: runtime().ledger.redis)
    worker_name = property(lambda self: self._record.worker)
    # --- its times, naive and in UTC as with RQ

    created_at = enqueued_at = property(lambda self: _rqs_time(self._record.message.enqueued_at))

    @property
    def started_at(self) -> datetime | None:
        return _rqs_time(self._record.started_at) if self._record.started_at else None

    @property
    def ended_at(self) -> datetime | None:
        """None also if it was cancelled before it began, as with RQ."""
        record = self._record
        return _rqs_time(record.ended_at) if record.ended_at and record.started_at else None

    # --- its status

    def get_status(self, refresh: bool = True) -> JobStatus | None:
        """None once it is no longer kept."""
        if refresh:
            record = runtime().ledger.read(self._record.message.id)
            if record is None:
                return None
            self._record = record
        if self._record.status == CANCELLED and self._record.started_at:
            return JobStatus.STOPPED
        return STATUSES[self._record.status]

    def refresh(self) -> None:
        """Raise RQ's NoSuchJobError once it is no longer kept."""
        if self.get_status() is None:
            raise NoSuchJobError(f"No such job: {self.id}")

    is_queued = _is(JobStatus.QUEUED)
    is_started = _is(JobStatus.STARTED)
    is_finished = _is(JobStatus.FINISHED)
    is_failed = _is(JobStatus.FAILED)
    is_canceled = _is(JobStatus.CANCELED)
    is_stopped = _is(JobStatus.STOPPED)

    def get_position(self) -> int | None:
        position: int | None = runtime().ledger.position(self._record.message)
        return position

    exc_info = property(lambda self: self._record.traceback or self._record.reason)
    result = property(lambda self: self.return_value())

    def return_value(self, refresh: bool = False) -> Any:
        if refresh or self._record.status in (QUEUED, STARTED):
            self.get_status()
        return runtime().host.arguments.decode_value(self._record.result)

    def latest_result(self) -> Any:
        """RQ's Result: type, return_value, exc_string, created_at; None before the job's end."""
        if self.get_status() in (None, JobStatus.QUEUED, JobStatus.STARTED):
            return None
        return SimpleNamespace(
            type=self._record.status,
            return_value=self.return_value(),
            exc_string=self.exc_info,
            created_at=self.ended_at,
            job_id=self.id,
        )

    def results(self) -> list[Any]:
        latest = self.latest_result()
        return [latest] if latest else []

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        return self.meta

    def save_meta(self) -> None:
        """Does nothing: what is in ``meta`` stays in this process."""

    def save(self, *_: Any, **__: Any) -> None:
        """Does nothing: the record is the ledger's."""

    # --- what can be done to it

    def cancel(self, *_: Any, **__: Any) -> None:
        """Remove it from its queue; raises RQ's InvalidJobOperation unless it waits or runs."""
        if not self._job.cancel():
            raise InvalidJobOperation(f"Cannot cancel job: {self.id} has ended.")

    def stop(self) -> None:
        """Kill it; raises RQ's InvalidJobOperation unless it runs."""
        if self.get_status() != JobStatus.STARTED:
            raise InvalidJobOperation("Job is not currently executing")
        self._job.cancel()

    def delete(self, *_: Any, **__: Any) -> None:
        """Remove its record and, if it waits, its message; if it runs, it is stopped."""
        self._job.delete()

    def requeue(self, at_front: bool = False) -> BenchJob:
        """Send it once more; raises RQ's InvalidJobOperation while it waits or runs."""
        try:
            return BenchJob(self._job.requeue()._record)
        except JobError as error:
            raise InvalidJobOperation(str(error)) from None

    @property
    def _job(self) -> Any:
        return runtime().jobs.of(self._record)


class SyncJob:
    """What ``is_async=False`` gives in tests: the job was called here, and has ended."""

    def __init__(self, job_id: str, result: Any, error: BaseException | None) -> None:
        self.id, self._result, self._error = job_id, result, error

    def get_status(self, refresh: bool = True) -> JobStatus:
        return JobStatus.FAILED if self._error else JobStatus.FINISHED

    def return_value(self, refresh: bool = False) -> Any:
        return self._result

    result = property(return_value)
    is_queued = is_started = False
    is_finished = property(lambda self: self._error is None)
    is_failed = property(lambda self: self._error is not None)

    exc_info = property(lambda self: repr(self._error) if self._error else None)


def jobs(records: Sequence[Record]) -> list[BenchJob]:
    """The jobs of these records."""
    return [BenchJob(record) for record in records]


def stop(connection: Any, job_id: str, serializer: Any = None) -> None:
    """RQ's ``send_stop_job_command``; raises its InvalidJobOperation unless the job runs."""
    BenchJob.fetch(job_id).stop()


@contextmanager
def as_rqs_current(job: BenchJob) -> Iterator[None]:
    """Inside, ``rq.get_current_job()`` finds it."""
    if (stack := getattr(rq.job, "_job_stack", None)) is not None:  # an empty stack is false
        stack.push(job)
        try:
            yield
        finally:
            stack.pop()
    else:  # RQ 2 and later
        variable: Any = rq.job._current_job
        token = variable.set(job)
        try:
            yield
        finally:
            variable.reset(token)


def _rqs_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)
