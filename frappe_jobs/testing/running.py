"""Run here what was enqueued: a worker's own road, without a worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from celery.exceptions import SoftTimeLimitExceeded

from frappe_jobs import runtime
from frappe_jobs.cron import UTC
from frappe_jobs.errors import StillEnqueuing
from frappe_jobs.execute import Expired, RunAgain
from frappe_jobs.host.own_methods import RELAY_OUTBOX, SETTLE_BACKGROUND_TASKS
from frappe_jobs.host.session import Session
from frappe_jobs.job import Job
from frappe_jobs.ledger.record import ENDED, QUEUED, Record
from frappe_jobs.message import Message
from frappe_jobs.methods import path_of
from frappe_jobs.runtime import Runtime
from frappe_jobs.scheduler.entry import Due
from frappe_jobs.testing import clocks
from frappe_jobs.testing.apart import began_apart
from frappe_jobs.testing.clocks import Clock

Method = Callable[..., Any] | str

#: What the package itself enqueues for its upkeep.
UPKEEP = (RELAY_OUTBOX, SETTLE_BACKGROUND_TASKS)

#: When jobs that were put back are due again, by a test's clock.
_put_back: WeakKeyDictionary[Runtime, dict[str, float]] = WeakKeyDictionary()


def run_jobs(
    *, queue: str | None = None, commit: bool = False, fail_fast: bool = True,
    limit: int = 1000, clock: Clock | None = None,
) -> list[Job[Any]]:  # fmt: skip
    """Run the jobs that wait, and those that they enqueue, here and in order; gives those that ran.

    As a worker does: at-front jobs first, then queue by queue; each on its site, as its user,
    between the hooks, with its arguments as JSON carried them; committed or rolled back; retried,
    if the clock says that it is time; its end written, its callback called.  Only a timeout ends
    nothing here, and a Celery task is not run.

    With ``commit`` the open site's transaction is committed before, so that what waits for that is
    sent.  With ``fail_fast`` the first job that fails for good raises its own error once its end is
    written, and the others wait.  Raises StillEnqueuing after ``limit`` runs.
    """
    here, clock = runtime.current(), clock or clocks.clock
    with here.host.shared():
        return _run_all(here, here.host.current(), queue, commit, fail_fast, limit, clock)


def _run_all(
    here: Runtime, session: Session | None, queue: str | None, commit: bool, fail_fast: bool,
    limit: int, clock: Clock,
) -> list[Job[Any]]:  # fmt: skip
    if session and commit:
        session.commit()
    ran: dict[str, Job[Any]] = {}
    for count, record in enumerate(_one_after_the_other(here, queue, clock)):
        if count == limit:
            raise StillEnqueuing(
                f"After {limit} runs {record.message.name} still waits: do jobs enqueue each other "
                "for ever? More are allowed by run_jobs(limit=…)."
            )
        error = _run(here, record.message, clock)
        if here.ledger.waits_for_room(record.message):
            continue
        ran[record.message.id] = here.jobs.of_message(record.message)
        if session:
            _see_what_it_did(session, commit)
        if error and fail_fast and ran[record.message.id].status in ENDED:
            raise error
    return [*ran.values()]


def run_due(*methods: Method, clock: Clock | None = None, **options: Any) -> list[Job[Any]]:
    """Queue the scheduled jobs that are due by the clock, as a scheduler does, then ``run_jobs``.

    Takes its keywords.  With ``methods`` only those of these methods.  Only jobs that the site's
    Scheduled Job Types name are scheduled: those of an app's hooks from the first ``migrate`` on
    (``bench()`` has done it).  In a test of Frappe's own nothing is overdue at first.
    """
    here, clock = runtime.current(), clock or clocks.clock
    with here.host.shared():
        _compare(here, clock.now())
        if methods:
            paths = {path_of(one) if callable(one) else one for one in methods}
            due = [one for one in _due(here, clock.now()) if one.entry.method in paths]
            here.timetable.move(here.scheduling.queue_due(due, clock.now()))
        else:
            _queue_all(here, clock)
    return run_jobs(clock=clock, **options)


def _compare(here: Runtime, now: float) -> None:
    """Bring the schedule in line: on a bench of its own that of all sites, else of the open one."""
    began, session = began_apart(here), here.host.current()
    here.sync.compare([session.site] if session and began else None, now=now)
    if began:
        overdue = [(one, one.next_at, one.next_at) for one in _due(here, began)]
        here.timetable.move(overdue)


def _due(here: Runtime, now: float) -> Iterator[Due]:
    at = datetime.fromtimestamp(now, UTC)
    for site in here.timetable.sites():
        for one in here.timetable.stored(site).values():
            if one.entry and one.due is not None and one.due <= now:
                next_at = one.entry.next_run(at).timestamp()
                yield Due(one.entry, one.due, next_at, one.queued, one.epoch)


def _queue_all(here: Runtime, clock: Clock) -> None:
    token = f"test/{uuid4()}"
    try:
        while (look := here.timetable.look(token, 60.0, clock.now())).due:
            here.timetable.move(here.scheduling.queue_due(look.due, look.now))
    finally:
        here.timetable.let_go(token)


def enqueued(
    method: Method | None = None,
    *,
    queue: str | None = None,
    site: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> list[Job[Any]]:
    """The jobs that wait, in the order in which they would run; to assert on.

    Only those of that method (a document's also by ``"Order.send_invoice"``), queue and site, and
    with these arguments among theirs.  What waits for a commit is not enqueued yet.
    """
    here = runtime.current()
    path = path_of(method) if callable(method) else method
    jobs = [here.jobs.of(record) for record in _waiting(here, queue)]
    return [
        job
        for job in jobs
        if (job.method not in UPKEEP or job.method == path)
        and path in (None, job.method, job.name)
        and site in (None, job.site)
        and _has(job.kwargs, kwargs or {})
    ]


def _has(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in given and given[name] == value for name, value in wanted.items())


def _waiting(here: Runtime, queue: str | None = None) -> list[Record]:
    """In a worker's order; a job that was put back stands behind those that waited by then."""
    queues = [here.settings.queue(queue).name] if queue else [*here.settings.queues]

    def place(record: Record) -> tuple[bool, int, float]:
        message = record.message
        waits_since = max(message.enqueued_at, record.due or 0.0)
        return not message.at_front, queues.index(message.queue), waits_since

    return sorted(here.listing.waiting(here.host.sites(), queues), key=place)


def _one_after_the_other(here: Runtime, queue: str | None, clock: Clock) -> Iterator[Record]:
    """The next that is due, as long as there is one."""
    put_back = _put_back.setdefault(here, {})
    while True:
        pauses = here.ledger.pauses()
        here.ledger.due()  # sends for those for which their limit has room by now
        for record in _waiting(here, queue):
            if any(one.holds(record.message) for one in pauses):
                continue
            if record.limited and here.ledger.waits_for_room(record.message):
                continue
            if put_back.get(record.message.id, record.due or 0.0) <= clock.now():
                break
        else:
            return
        yield record


def _run(here: Runtime, message: Message, clock: Clock) -> BaseException | None:
    """One run of it, as in a worker's process, where nothing is open; gives what it raised."""
    here.broker.discard([message])  # as a worker takes it
    here.ledger.call_up(message)
    error = Context().run(_execute, here, _by(clock, message))
    put_back = _put_back.setdefault(here, {})
    record = here.ledger.read(message.id)
    if record and record.status == QUEUED:
        wait = error.delay if isinstance(error, RunAgain) else 0
        put_back[message.id] = clock.now() + wait
    else:
        put_back.pop(message.id, None)
    return error


def _by(clock: Clock, message: Message) -> Message:
    """The message, as the ledger goes by Redis's clock, so that it expires by this one."""
    at = message.expires_at
    return message if at is None else replace(message, expires_at=max(0.0, at - clock.ahead))


def _execute(here: Runtime, message: Message) -> BaseException | None:
    try:
        here.executor.execute(
            message, holder=f"test/{os.getpid()}", timed_out=SoftTimeLimitExceeded
        )
    except Expired:
        return None
    except BaseException as error:  # noqa: B036 - what a job raises ends no worker either
        return error
    return None


def _see_what_it_did(session: Session, commit: bool) -> None:
    """What the test has read of its site may have been changed by the job."""
    session.forget_what_was_read()
    if commit:  # else a transaction may go on to see the site as it was
        session.commit()
