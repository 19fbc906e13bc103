"""One job in its site: user, hooks, method, commit or rollback, and what becomes of it."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from frappe_jobs.arguments import Arguments
from frappe_jobs.errors import JobFailed, JobNotSerializable
from frappe_jobs.hosts.base import Host, Session
from frappe_jobs.job import Job
from frappe_jobs.ledger import FAILED, FINISHED, Ledger
from frappe_jobs.message import Message
from frappe_jobs.methods import call

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CurrentJob:
    """The job that runs here, as ``get_current_job()`` gives it."""

    id: str
    site: str
    user: str
    method: str
    kwargs: Mapping[str, Any]
    queue: str
    attempt: int
    message: Message


_current: ContextVar[CurrentJob | None] = ContextVar("job", default=None)


def current_job() -> CurrentJob | None:
    """The job that this code runs in; None outside of one."""
    return _current.get()


@dataclass(frozen=True)
class Outcome:
    """How a method ended: its result as JSON carries it, or its error and what people read."""

    result: Any = None
    value: Any = None  # the result as the method gave it, for the callbacks
    error: BaseException | None = None
    reason: str = ""


class Executor:
    """Runs the messages that a worker takes."""

    def __init__(self, host: Host, ledger: Ledger, handle: Callable[[Message], Job]) -> None:
        self._host, self._ledger = host, ledger
        self._handle = handle  # the Job of a message, for the callbacks

    def execute(self, message: Message, *, worker: str, timed_out: type[BaseException]) -> Any:
        """Run the message's method and return its result as JSON carries it.

        The job's end is in its record before this returns or raises the method's own error.
        ``timed_out`` is what the worker raises in a job at its timeout.  Nothing is run, and None
        returned, if the record says that the job has ended.
        """
        if message.failure_of:
            return self._report_failure(message)
        attempt = self._ledger.start(message, worker)
        if not attempt:
            logger.info(
                "%s had ended before; its message is dropped", message.name,
                extra={"action": "job_dropped", "job": message.job_id},
            )  # fmt: skip
            return None
        outcome: Outcome | None = None
        try:
            with self._host.session(message.site, message.user) as session:
                outcome = self._run(message, session, attempt, timed_out)
                self._end(message, outcome)
                self._call_back(message, outcome)
        except (Exception, SystemExit) as error:
            if outcome is None:  # the site could not be opened
                outcome = Outcome(error=error, reason=_reason(error, message, timed_out))
                self._end(message, outcome)
            else:  # the job's end stands
                _log_and_go_on("closing the site", message)
        if outcome.error:
            raise outcome.error
        return outcome.result

    def _run(
        self, message: Message, session: Session, attempt: int, timed_out: type[BaseException]
    ) -> Outcome:
        """The method between its hooks; whatever it raises is in the outcome."""
        kwargs: dict[str, Any] = {}
        outcome = Outcome()
        with self._as_current(message, kwargs, attempt):
            try:
                kwargs.update(self._host.arguments.decode(message.arguments))
                method = self._host.method(message.method, message.site)
                for path in self._host.hooks("before_job", message.site):
                    self._call_hook(path, message, kwargs, transaction_type="job")
                value = method(**kwargs)
                session.commit()
                outcome = Outcome(_as_json(value, message, self._host.arguments), value)
            except (Exception, SystemExit) as error:
                session.rollback()
                self._host.log_error(message.name, error)
                outcome = Outcome(error=error, reason=_reason(error, message, timed_out))
            for path in self._host.hooks("after_job", message.site):
                try:
                    self._call_hook(path, message, kwargs, result=outcome.value)
                except (Exception, SystemExit):  # the method is committed, or rolled back, already
                    _log_and_go_on(f"the after_job hook {path}", message)
        return outcome

    def _end(self, message: Message, outcome: Outcome) -> None:
        if outcome.error is None:
            self._ledger.end(message, FINISHED, result=json.dumps(outcome.result))
            return
        self._ledger.end(
            message,
            FAILED,
            reason=outcome.reason,
            error=type(outcome.error).__name__,
            traceback="".join(traceback.format_exception(outcome.error)),
        )

    def _call_back(self, message: Message, outcome: Outcome) -> None:
        """Call on_success or on_failure as RQ does; an error in it changes nothing."""
        if outcome.error is None:
            path, arguments = message.on_success, [outcome.value]
        else:
            error = outcome.error
            path, arguments = message.on_failure, [type(error), error, error.__traceback__]
        if path is None:
            return
        try:
            callback = self._host.method(path, message.site)
            callback(self._handle(message), self._ledger.redis, *arguments)
        except (Exception, SystemExit):
            _log_and_go_on(f"the callback {path}", message)

    def _report_failure(self, message: Message) -> None:
        """Call the on_failure of another message, whose process was killed before it could."""
        record = self._ledger.read(str(message.failure_of))
        if record is None:
            return
        with self._host.session(message.site, message.user):
            reason = record.reason or ""
            self._call_back(record.message, Outcome(error=JobFailed(reason), reason=reason))

    def _call_hook(
        self, path: str, message: Message, kwargs: Mapping[str, Any], **options: Any
    ) -> None:
        hook = self._host.method(path, message.site)
        call(hook, method=message.method, kwargs=kwargs, **options)

    @contextmanager
    def _as_current(
        self, message: Message, kwargs: Mapping[str, Any], attempt: int
    ) -> Iterator[None]:
        job = CurrentJob(
            id=message.job_id, site=message.site, user=message.user, method=message.method,
            kwargs=kwargs, queue=message.queue, attempt=attempt, message=message,
        )  # fmt: skip
        token = _current.set(job)
        try:
            yield
        finally:
            _current.reset(token)


def _reason(error: BaseException, message: Message, timed_out: type[BaseException]) -> str:
    if isinstance(error, timed_out):
        return f"timed out after {message.timeout} s"
    return f"{type(error).__name__}: {error}"


def _as_json(value: Any, message: Message, arguments: Arguments) -> Any:
    try:
        return arguments.encode_value(value, "result")
    except JobNotSerializable as error:  # the work is done and committed: no reason to fail it
        logger.warning(
            "%s: %s Its result is not kept.", message.name, error,
            extra={"action": "result_dropped", "job": message.job_id},
        )  # fmt: skip
        return None


def _log_and_go_on(what: str, message: Message) -> None:
    logger.exception(
        "%s: %s failed; the job's end stands", message.name, what,
        extra={"action": "callback_failed", "job": message.job_id},
    )  # fmt: skip
