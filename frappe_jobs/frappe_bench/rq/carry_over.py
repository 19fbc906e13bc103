"""Jobs that wait on RQ, carried over to Celery: each exactly once, whenever this is killed.

A job is first taken out of RQ's queue, into a list beside it, in one step, so that no worker of
RQ's gets it.  Its message has an id made from the job's, so that sending it again does nothing.
Last of all it is forgotten.  Whoever comes next finds in the list what was begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import frappe
from frappe.utils.background_jobs import get_redis_conn, truncate_failed_registry

from frappe_jobs.errors import BrokerUnavailable, FrappeJobsError
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq.payload import arguments_of, call_of
from frappe_jobs.frappe_bench.rq.queue import BenchQueue
from frappe_jobs.message import Message, Sending

#: Where RQ's users may write: under Frappe's own rules they see ``rq:*`` alone.
TAKEN = "rq:frappe_jobs:taken:"

FRAPPES_ON_FAILURE = (
    f"{truncate_failed_registry.__module__}.{truncate_failed_registry.__qualname__}"
)


@dataclass
class Carried:
    """What became of the jobs that waited."""

    count: int = 0
    #: Why a job stays on RQ, by its id.
    refused: dict[str, str] = field(default_factory=dict)


def carry_over() -> Carried:
    """Send to Celery what waits in the queues of RQ, in its order; raises BrokerUnavailable.

    What cannot be read without running it, or cannot travel, stays where it was.
    """
    with frappe.init_site():
        redis = get_redis_conn()
    carried, settings = Carried(), runtime().settings
    for queue in settings.queues:
        waiting = f"rq:queue:{settings.bench_id}:{queue}"
        taken = f"{TAKEN}{settings.bench_id}:{queue}"
        refused: list[bytes] = []
        try:
            for job_id in _taken(redis, waiting, taken):
                if why := _carry(redis, queue, job_id):
                    carried.refused[job_id.decode()] = why
                    refused.append(job_id)
                else:
                    _forget(redis, taken, job_id)
                    carried.count += 1
        finally:
            _put_back(redis, waiting, taken, refused)
    return carried


def _taken(redis: Any, waiting: str, taken: str) -> Iterator[bytes]:
    """The ids of the jobs that wait, each taken; those first that were taken before."""
    yield from redis.lrange(taken, 0, -1)
    while job_id := redis.lmove(waiting, taken, "LEFT", "RIGHT"):
        yield job_id


def _put_back(redis: Any, waiting: str, taken: str, refused: Sequence[bytes]) -> None:
    """At the front, in their order, for a worker of RQ's."""
    with redis.pipeline(transaction=True) as pipe:
        for job_id in reversed(refused):
            pipe.lrem(taken, 1, job_id)
            pipe.lpush(waiting, job_id)
        pipe.execute()


def _forget(redis: Any, taken: str, job_id: bytes) -> None:
    with redis.pipeline(transaction=True) as pipe:
        pipe.delete(b"rq:job:" + job_id)
        pipe.lrem(taken, 1, job_id)
        pipe.execute()


def _carry(redis: Any, queue: str, job_id: bytes) -> str:
    """Send the job to Celery; why it cannot be sent, or nothing."""
    job = redis.hgetall(b"rq:job:" + job_id)
    if not job:  # it was deleted, and RQ would pass it over as well
        return ""
    largest = runtime().settings.max_message_size
    try:
        call = call_of(job.get(b"data", b""), largest)
        with runtime().host.session(call["site"]):
            call["kwargs"] = arguments_of(call, largest)
            message = _message(queue, job_id.decode(), job, call)
            runtime().dispatcher.dispatch([Sending(message, has_row=True)])
    except BrokerUnavailable:
        raise
    except FrappeJobsError as error:
        return str(error)
    except Exception as error:  # of one site's database, or of an app's module
        return repr(error)
    return ""


def _message(queue: str, job_id: str, job: Mapping[bytes, bytes], call: dict[str, Any]) -> Message:
    """As it would be if the job had been enqueued here; with the same id each time."""
    at = _seconds(job.get(b"enqueued_at") or job[b"created_at"])
    on_failure = _text(job, b"failure_callback_name")
    composed = BenchQueue(queue).composed(
        call,
        timeout=_text(job, b"timeout"),
        job_id=job_id,
        on_success=_text(job, b"success_callback_name"),
        on_failure=truncate_failed_registry if on_failure == FRAPPES_ON_FAILURE else on_failure,
    )
    same = str(uuid5(NAMESPACE_URL, f"{runtime().settings.prefix}{job_id} {at}"))
    return replace(composed.message, id=same, enqueued_at=at, task_id=None)


def _text(job: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = job.get(name)
    return value.decode() if value else None


def _seconds(moment: bytes) -> float:
    """RQ's own writing of a time, in UTC."""
    return datetime.fromisoformat(moment.decode().rstrip("Z")).replace(
        tzinfo=timezone.utc
    ).timestamp()  # fmt: skip
