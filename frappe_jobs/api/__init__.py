"""Frappe's functions, with Frappe's signatures, on the core."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from frappe_jobs import runtime
from frappe_jobs.api import composing
from frappe_jobs.api.later import Method, typed_as_enqueue
from frappe_jobs.context import require_session
from frappe_jobs.current import CurrentJob, current_job
from frappe_jobs.dispatch import Batch, Expiry, Options
from frappe_jobs.effects import run as effects
from frappe_jobs.effects.loop import Loop
from frappe_jobs.errors import ArgumentError, FrappeJobsError
from frappe_jobs.host.own_methods import RUN_DOC_METHOD
from frappe_jobs.host.session import Session
from frappe_jobs.job import Job
from frappe_jobs.ledger.record import OPEN
from frappe_jobs.message import Retry, Sending

if TYPE_CHECKING:
    from celery.result import AsyncResult

Value = TypeVar("Value")
Row = TypeVar("Row")
P = ParamSpec("P")


class CeleryTask(Protocol):
    """What tells a Celery task from a function, for type checkers."""

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it with these arguments."""

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """The same, with Celery's options."""


#: enqueue_at hands its time to enqueue under a name that no keyword has.
AT = "when it is due"


@contextmanager
def site(
    name: str, user: str | None = None, session: Any = None, *, for_update: bool = False
) -> Iterator[Session]:
    """Open a site: commits on a clean exit, rolls back on an exception.

    Nests, and is private to the thread or async task.  ``user`` is Administrator unless named.
    With ``session``, that SQLAlchemy session of yours is used, and jobs with
    ``enqueue_after_commit`` follow its commits; you commit, roll back and close it.
    With ``for_update``, on SQLite, its transactions take their turn to write before they read, so
    they meet no TransactionConflict.  Raises SiteNotFound.
    """
    with runtime.current().host.session(name, user, session) as opened:
        opened.writes_first = for_update
        yield opened


# Who calls it sees in the editor what comes back, and is told of a keyword that the method does not
# take.  The flags that decide what comes back tell the overloads apart: for a call that gives none
# of them the first one fits.  A ParamSpec allows no keyword-only options before it.
# fmt: off
@overload
def enqueue(
    method: CeleryTask, queue: str | None = None, timeout: int | None = None,
    *, at_front: bool = False, **kwargs: Any,
) -> AsyncResult: ...


@overload
def enqueue(
    method: Callable[P, Value], queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: Literal[True] = True, job_name: str | None = None,
    now: Literal[False] = False, enqueue_after_commit: Literal[False] = False,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: Literal[False] = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None,
    *args: P.args, **kwargs: P.kwargs,
) -> Job[Value]: ...


@overload
def enqueue(
    method: Callable[P, Value], queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: Literal[True] = True, job_name: str | None = None,
    now: Literal[False] = False, enqueue_after_commit: Literal[False] = False,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: bool = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None,
    *args: P.args, **kwargs: P.kwargs,
) -> Job[Value] | None: ...


@overload
def enqueue(
    method: Callable[P, Value], queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: Literal[True] = True, job_name: str | None = None,
    now: Literal[False] = False, enqueue_after_commit: Literal[True] = True,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: bool = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None,
    *args: P.args, **kwargs: P.kwargs,
) -> None: ...


@overload
def enqueue(
    method: Callable[P, Value], queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: bool = True, job_name: str | None = None,
    now: Literal[True] = True, enqueue_after_commit: bool = False,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: bool = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None,
    *args: P.args, **kwargs: P.kwargs,
) -> Value: ...


@overload
def enqueue(
    method: Callable[P, Value], queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: Literal[False] = False, job_name: str | None = None,
    now: Literal[False] = False, enqueue_after_commit: bool = False,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: bool = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None,
    *args: P.args, **kwargs: P.kwargs,
) -> Value: ...


@overload
def enqueue(
    method: Callable[P, Value], queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: bool = True, job_name: str | None = None,
    now: bool = False, enqueue_after_commit: bool = False,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: bool = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None,
    *args: P.args, **kwargs: P.kwargs,
) -> Any: ...


@overload
def enqueue(
    method: str, queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: Literal[True] = True, job_name: str | None = None,
    now: Literal[False] = False, enqueue_after_commit: Literal[False] = False,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: Literal[False] = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None, **kwargs: Any,
) -> Job[Any]: ...


@overload
def enqueue(
    method: str, queue: str | None = None, timeout: int | None = None,
    event: str | None = None, is_async: bool = True, job_name: str | None = None,
    now: bool = False, enqueue_after_commit: bool = False,
    on_success: Method | None = None, on_failure: Method | None = None, at_front: bool = False,
    at_front_when_starved: bool = False, job_id: str | None = None,
    deduplicate: bool = False, track_job: bool = False,
    retry: int | Retry | None = None, debounce: bool = False,
    concurrency_key: str | None = None, expires: Expiry = None, **kwargs: Any,
) -> Any: ...


# fmt: on
def enqueue(  # type: ignore[misc]  # the overloads' last keywords are the method's
    method: Method,
    queue: str | None = None,
    timeout: int | None = None,
    event: str | None = None,
    is_async: bool = True,
    job_name: str | None = None,
    now: bool = False,
    enqueue_after_commit: bool = False,
    *,
    on_success: Method | None = None,
    on_failure: Method | None = None,
    at_front: bool = False,
    at_front_when_starved: bool = False,
    job_id: str | None = None,
    deduplicate: bool = False,
    track_job: bool = False,
    retry: int | Retry | None = None,
    debounce: bool = False,
    concurrency_key: str | None = None,
    expires: Expiry = None,
    **kwargs: Any,
) -> Any:
    """Have a worker run the method on the open site, as its user; returns the Job.

    Returns None with ``enqueue_after_commit`` (it is sent when the transaction commits, dropped
    when it rolls back), and if ``deduplicate`` finds ``job_id`` waiting or running.  With
    ``debounce`` this job takes the place of a job of that ``job_id`` that waits, and waits for the
    end of one that runs.  Of the site's jobs with the same ``concurrency_key`` one runs at a time,
    or as many as a limit says; the others wait.  With ``track_job`` a Background Task follows the
    job: it is written in this transaction, so the job is sent at its commit, too; the handle is
    returned at once.  With ``now=True`` or ``is_async=False`` the method is called here, in this
    transaction, and its result returned.  A Celery task is sent as it is, and Celery's AsyncResult
    returned.

    ``timeout`` is in seconds; the queue's if none is given.  A job that has not begun ``expires``
    seconds from now, or by that time, is cancelled by the worker that comes to it.  Further
    keywords are the method's arguments.  Raises, before anything is sent: UnknownQueue,
    ArgumentError (JobNotSerializable, MessageTooLarge), MethodNotFound, MethodNotAllowed,
    HostNotReady, QueueOverloaded; and BrokerUnavailable.
    """
    is_async = kwargs.pop("async", is_async)
    at: float | None = kwargs.pop(AT, None)
    options = Options(
        queue=queue, timeout=timeout, event=event, job_name=job_name,
        on_success=on_success, on_failure=on_failure, at_front=at_front,
        at_front_when_starved=at_front_when_starved, job_id=job_id, deduplicate=deduplicate,
        track_job=track_job, retry=retry, enqueue_after_commit=enqueue_after_commit,
        debounce=debounce, concurrency_key=concurrency_key, expires=expires,
    )  # fmt: skip
    if at is not None and (now or not is_async or composing.is_task(method)):
        raise ArgumentError(
            "A job for later is no call here (now, is_async), and no Celery task: that has "
            "apply_async(eta=…)."
        )
    if composing.is_task(method):
        if now or not is_async:
            return method(**kwargs)
        return runtime.current().dispatcher.send_task(method, kwargs, options)
    if now or not is_async:
        return composing.call_here(method, kwargs)
    sending = composing.for_then(composing.compose(method, kwargs, options), at)
    here, session = runtime.current(), require_session()
    if track_job:
        [job] = here.background_tasks.enqueue([sending], session)
        return None if enqueue_after_commit else job
    if enqueue_after_commit:
        here.at_commit.send([sending], session)
        return None
    return here.dispatcher.dispatch([sending])[0]


@typed_as_enqueue
def enqueue_at(when: datetime, method: Method, /, *args: Any, **options: Any) -> Any:
    """Have a worker run the method at that time, or soon after; takes ``enqueue``'s arguments.

    A naive time is one of the site's clocks: if they show it twice, the first time; if never, the
    end of the gap.  A time that is over means now.  The job waits in Redis, whatever the broker,
    and its ``due`` says until when; it can be cancelled, or moved with ``Job.move``.  Returns what
    ``enqueue`` returns.  Raises ArgumentError also for a time in over 100 years.
    """
    return enqueue(method, *args, **options | {AT: composing.at(when)})


@typed_as_enqueue
def enqueue_in(delta: timedelta | float, method: Method, /, *args: Any, **options: Any) -> Any:
    """The same after so much time, or so many seconds, by Redis's clock."""
    return enqueue(
        method, *args, **options | {AT: composing.after(delta, runtime.current().ledger.now)}
    )


def enqueue_many(items: Iterable[Mapping[str, Any]]) -> list[Job | None]:
    """Enqueue many jobs in as few round trips as the broker allows, in their order.

    Each item holds ``enqueue``'s arguments: ``{"method": send_invoice, "queue": "long", "order":
    "ORD-1"}``, and ``enqueue_at`` or ``enqueue_in`` if it is for later.  All are checked before any
    is sent: the first bad one raises ArgumentError with its index and why.  Gives what ``enqueue``
    would give for each; those with ``enqueue_after_commit`` or ``track_job`` are sent together at
    the commit.  Should the broker fail midway, the error's ``details["sent"]`` holds the jobs that
    were sent.
    """
    here = runtime.current()
    batch = Batch(cache(here.ledger.now), cache(require_session))
    checked: list[tuple[Sending, Options]] = []
    for index, item in enumerate(items):
        try:
            checked.append(composing.item(item, batch))
        except FrappeJobsError as error:
            wrong = ArgumentError(f"Item {index}: {error} Nothing was sent.")
            raise wrong.about(index=index) from error
    tracked, later, at_once = list[Sending](), list[Sending](), list[Sending]()
    for sending, options in checked:
        kind = tracked if options.track_job else later if options.enqueue_after_commit else at_once
        kind.append(sending)
    jobs: dict[str, Job | None] = {}
    if tracked:
        jobs |= _by_message(tracked, here.background_tasks.enqueue(tracked, require_session()))
    jobs |= _by_message(at_once, here.dispatcher.dispatch(at_once))
    if later:
        here.at_commit.send(later, require_session())
    return [
        None if options.enqueue_after_commit else jobs[sending.message.id]
        for sending, options in checked
    ]


def _by_message(sendings: Sequence[Sending], jobs: Sequence[Job | None]) -> dict[str, Job | None]:
    return {sending.message.id: job for sending, job in zip(sendings, jobs, strict=True)}


# fmt: off
@overload
def enqueue_doc(
    doctype: str, name: Any = None, method: str | None = None, queue: str | None = "default",
    timeout: int | None = 300, now: Literal[False] = False, *, is_async: Literal[True] = True,
    enqueue_after_commit: Literal[False] = False, deduplicate: Literal[False] = False,
    **kwargs: Any,
) -> Job[Any]: ...


@overload
def enqueue_doc(
    doctype: str, name: Any = None, method: str | None = None, queue: str | None = "default",
    timeout: int | None = 300, now: bool = False, **kwargs: Any,
) -> Any: ...


# fmt: on
def enqueue_doc(
    doctype: str,
    name: Any = None,
    method: str | None = None,
    queue: str | None = "default",
    timeout: int | None = 300,
    now: bool = False,
    **kwargs: Any,
) -> Any:
    """Have a worker load the document and call its method; returns as ``enqueue`` does.

    Takes ``enqueue``'s other keywords, too.  The job's name is ``DocType.method``.
    """
    kwargs.setdefault("job_name", f"{doctype}.{method}")
    return enqueue(
        RUN_DOC_METHOD, queue, timeout, now=now,
        doctype=doctype, name=name, doc_method=method, **kwargs,
    )  # fmt: skip


def get_job(job_id: str, site: str | None = None) -> Job | None:
    """The newest job of that id on that site (the open one); None if none is known."""
    here = runtime.current()
    record = here.ledger.find(_site(site), here.host.job_id(job_id))
    return here.jobs.of(record) if record else None


def get_job_status(job_id: str) -> str | None:
    """The status of that job on the open site; None if none is known."""
    job = get_job(job_id)
    return job.status if job else None


def is_job_enqueued(job_id: str) -> bool:
    """Whether a job of that id waits or runs on the open site."""
    return get_job_status(job_id) in OPEN


def get_jobs(
    site: str | None = None, queue: str | None = None, key: str = "method"
) -> dict[str, list[Any]]:
    """The jobs that wait and run: by site the ``key`` of each, which is a field or an argument.

    Of all sites and queues unless one is named.  Raises UnknownQueue, SiteNotFound.
    """
    here = runtime.current()
    name = here.settings.queue(queue).name if queue else None
    keys: dict[str, list[Any]] = defaultdict(list)
    for of_site in [_site(site)] if site else here.host.sites():
        for record in here.ledger.records(of_site, name):
            fields = record.message.header() | {"job_name": record.message.name}
            values = fields if key in fields else here.jobs.of(record).kwargs
            if record.status in OPEN and key in values:
                keys[of_site].append(values[key])
    return dict(keys)


def get_queues_timeout() -> dict[str, int]:
    """Each queue of the bench and its timeout in seconds, in Frappe's order."""
    return {queue.name: queue.timeout for queue in runtime.current().settings.queues.values()}


def get_current_job() -> CurrentJob | None:
    """The job that this code runs in: its id, site, user, method, kwargs, queue and attempt.

    None outside of a job.
    """
    return current_job()


def publish_progress(percent: float, stage: str | None = None, **further: Any) -> None:
    """Say how far the job that runs here is: per cent, and what it is doing.

    Read as ``Job.progress`` and ``Job.stage``, and in a tracked job's Background Task.  Does
    nothing outside of a job.  Takes the keywords of Frappe's ``publish_progress`` (``title``,
    ``description``; ``doctype`` and ``docname`` say what a tracked job is about).
    """
    if job := current_job():
        here = runtime.current()
        stage = stage or further.get("description") or further.get("title")
        about = further.get("doctype"), further.get("docname")
        here.tracking.publish(job, float(percent), stage, *about)


def step(name: str, method: Callable[..., Value], *args: Any, **kwargs: Any) -> Value:
    """Call the method and commit, once for the job that runs here, however often that runs.

    A later run of the job passes the step over and returns what it had returned: JSON of up to
    10,000 characters, else ArgumentError.  A step that failed is done again.  Outside of a job it
    is a plain call, and commits nothing.
    """
    here = effects.current()
    return here.step(name, method, *args, **kwargs) if here else method(*args, **kwargs)


def resume(
    rows: Iterable[Row] | Callable[[Any], Iterable[Row]],
    key: Callable[[Row], Any] | None = None,
    *,
    name: str = "rows",
    every: int = 100,
    seconds: float = 5.0,
) -> Iterator[Row]:
    """The rows, each once for the job that runs here, however often it is interrupted.

    Commits after ``every`` rows or so many ``seconds``, and after the last row, each time with the
    place that it has reached; a later run of the job goes on there.  When the job's worker stops,
    or its timeout is near, it commits, and the job is queued again: that counts as no retry.

    The rows must come in the same order each time.  Without ``key`` as many rows are passed over as
    were done; with a key, such as ``lambda row: row.name``, all rows up to the last that was done.
    A function in place of the rows is given that row's key, None at first, and reads the rows after
    it.  A job's second loop needs another ``name``.  Outside of a job it is a plain loop, and
    commits nothing.
    """
    if here := effects.current():
        return Loop(here, name, key, every, seconds).run(rows)
    return iter(rows(None) if callable(rows) else rows)


def get_recent_tasks(limit: int = 15) -> list[dict[str, Any]]:
    """The newest Background Tasks of the open site's user; Administrator gets everybody's.

    Newest first, as their jobs are now: ``task_id``, ``job_id``, ``task_name``, ``user``,
    ``method``, ``queue``, ``status``, ``progress``, ``stage``, ``creation``, ``started_at``,
    ``ended_at``, ``ref_doctype``, ``ref_docname``.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ArgumentError(f"limit must be a whole number, 0 or more; not {limit!r}.")
    return runtime.current().background_tasks.recent(require_session(), limit)


def get_doc(doctype: str | Mapping[str, Any], name: Any = None, *, for_update: bool = False) -> Any:
    """The document of that name on the open site; raises DoesNotExistError.

    With ``for_update`` as it is now, and locked until this transaction ends.  With a dict of fields
    in place of the name, the first document that has these values.  With a dict alone, such as
    ``{"doctype": "Order", "customer": "Grete"}``, a new document as from ``new_doc``.
    """
    if isinstance(doctype, Mapping):
        values = dict(doctype)
        if not isinstance(kind := values.pop("doctype", None), str):
            raise ArgumentError(f"The dict of a new document needs its 'doctype'; not {kind!r}.")
        return new_doc(kind, **values)
    return runtime.current().host.documents.get_doc(doctype, name, for_update=for_update)


def new_doc(doctype: str, **values: Any) -> Any:
    """A new document for the open site, not stored until its ``insert()``."""
    return runtime.current().host.documents.new_doc(doctype, values)


def get_all(
    doctype: str,
    filters: Mapping[str, Any] | None = None,
    fields: Sequence[str] = ("name",),
    order_by: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """These fields of each document whose values equal the filters; ``["*"]``: all fields.

    ``order_by`` is a field, followed by " desc" if you like.
    """
    return runtime.current().host.documents.get_all(doctype, filters or {}, fields, order_by, limit)


def _site(name: str | None) -> str:
    if name is None:
        return require_session().site
    runtime.current().settings.sites.require(name)
    return name
