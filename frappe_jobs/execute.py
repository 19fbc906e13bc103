"""One job in its site: user, hooks, method, commit or rollback, and what becomes of it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from frappe_jobs import current
from frappe_jobs.background_task import record as task_record
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.errors import (
    BadMessage,
    BrokerUnavailable,
    ForgedMessage,
    FrappeJobsError,
    JobFailed,
    RetryBackgroundJobError,
    TransactionConflict,
)
from frappe_jobs.host.port import Host
from frappe_jobs.host.session import Session
from frappe_jobs.job import Jobs
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.away import AwaySites
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, Attempt, Refusal
from frappe_jobs.message import Message
from frappe_jobs.methods import call
from frappe_jobs.outcome import Outcome
from frappe_jobs.texts.error_text import bounded, described, presentable, traceback_of

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

#: How often a deadlock, a lock wait timeout or RetryBackgroundJobError is tried again (Frappe's).
CONFLICT_RETRIES = 5
#: How a record names what a second attempt need not meet again.
TRANSACTION_CONFLICT = f"{TransactionConflict.__module__}.{TransactionConflict.__qualname__}"
#: Seconds between two attempts to reach the ledger, when a job begins or ends.
LEDGER_PAUSE = 0.5


class Run(NamedTuple):
    """One run of a message: who holds the job's lease, and an id that no other run has."""

    holder: str
    id: str


class RunAgain(Exception):
    """The job was rolled back and waits for its next attempt, so many seconds from now."""

    def __init__(self, delay: int) -> None:
        super().__init__(delay)
        self.delay = delay


class Executor:
    """Runs the messages that a worker takes."""

    def __init__(
        self,
        host: Host,
        ledger: Ledger,
        jobs: Jobs,
        tracking: Tracking,
        away: AwaySites,
    ) -> None:
        self._host, self._ledger, self._tracking, self._away = host, ledger, tracking, away
        self._jobs = jobs

    def execute(
        self,
        message: Message,
        *,
        holder: str,
        timed_out: type[BaseException],
        leave: Callable[[], object] = lambda: None,
    ) -> Any:
        """Run the message's method and return its result as JSON carries it.

        ``holder`` is who holds the job's lease meanwhile, and renews it.  The job's end is in its
        record before this returns or raises the method's own error.  Raises RunAgain where another
        attempt is due, where somebody else holds the lease, and where its site's database was away.
        ``timed_out`` is what the worker
        raises in a job at its timeout.  ``leave`` ends what the job has started, where its run has
        failed.  Nothing is run, and None returned, if the record says that the job has ended.
        """
        if rest := _insist(lambda: self._away.rest(message.site), message, timed_out):
            logger.info(
                "%s is put back: the database of %s is out of reach", message.name, message.site,
                extra={"action": "job_put_back", "job": message.job_id},
            )  # fmt: skip
            raise RunAgain(ceil(rest))
        run = Run(holder, uuid4().hex)
        attempt = _insist(lambda: self._ledger.start(message, *run), message, timed_out)
        self._host.clear()
        try:
            if isinstance(attempt, Refusal):
                return self._refuse(message, attempt, timed_out)
            return self._execute(message, attempt, run, timed_out, leave)
        finally:
            self._tracking.leave(message)
            self._host.clear()

    def _execute(
        self,
        message: Message,
        attempt: Attempt,
        run: Run,
        timed_out: type[BaseException],
        leave: Callable[[], object],
    ) -> Any:
        if message.failure_of:
            return self._report_failure(message, timed_out)
        outcome: Outcome | None = None
        ended: bool | None = None
        try:
            with self._host.session(message.site, message.user) as session:
                outcome = self._run(message, session, attempt, run, timed_out)
                if outcome.error is not None:  # before anybody may run it again
                    _insist(leave, message, timed_out)
                self._note_reach(message.site, session, outcome)
                ended = self._settle_for_sure(message, outcome, run, timed_out)
                if ended:
                    self._call_back(message, outcome)
        except BaseException as error:
            if outcome is None:  # the site could not be opened
                never_reached = self._host.is_out_of_reach(error)
                outcome = self._failure(message, error, attempt, timed_out, never_reached)
                self._settle_for_sure(message, outcome, run, timed_out)
            elif ended is None:  # nothing says yet what became of the job: it comes back
                raise
            else:  # what became of the job stands
                _log_and_go_on("closing the site", message)
        if outcome.run_again_in is not None:
            raise RunAgain(outcome.run_again_in) from outcome.error
        if outcome.error:
            raise outcome.error
        return outcome.result

    def _run(
        self,
        message: Message,
        session: Session,
        attempt: Attempt,
        run: Run,
        timed_out: type[BaseException],
    ) -> Outcome:
        """The method between its hooks; whatever it raises is in the outcome."""
        kwargs: dict[str, Any] = {}
        returned = False
        session.writes_first = self._met_conflict(message, attempt)
        here = current.running(message, kwargs, attempt.number, run.holder)
        with here, self._host.running(message, kwargs):
            try:
                self._tracking.begin(message, session)
                kwargs.update(self._host.arguments.decode(message.arguments))
                method = self._host.methods.resolve(message.method, message.site)
                for path in self._host.methods.hooks("before_job", message.site):
                    self._call_hook(path, message, kwargs, transaction_type="job")
                value = method(**kwargs)
                returned = True
                outcome = self._commit(message, session, value)
            except BaseException as error:  # noqa: B036 - it is in the outcome
                session.rollback()
                never_reached = self._host.is_out_of_reach(error) and not session.was_connected
                outcome = self._tracked(
                    message,
                    self._failure(
                        message, error, attempt, timed_out, never_reached,
                        may_be_committed=returned,
                    ),
                )  # fmt: skip
            if outcome.run_again_in is None:
                if outcome.error:
                    self._log_error(message, outcome.error)
                self._call_after_hooks(message, kwargs, outcome)
        return outcome

    def _met_conflict(self, message: Message, attempt: Attempt) -> bool:
        """Whether others changed what its last attempt had read, so that it reads later now."""
        try:
            record = self._ledger.read(message.id) if attempt.retries else None
        except BrokerUnavailable:  # then it may meet a second one
            return False
        return record is not None and record.error == TRANSACTION_CONFLICT

    def _commit(self, message: Message, session: Session, value: Any) -> Outcome:
        """The end of a method that has returned; of a tracked job its record says so with it."""
        if message.task_id is None:
            session.commit()
            result, text = self._as_json(value, message)
            return Outcome(result, text, value)
        result, text = self._as_json(value, message)
        said = None if result is None else text
        is_written = self._tracking.complete(message, session, said)
        session.commit()
        if not is_written:
            is_written = self._tracking.ended(message, task_record.COMPLETED, result=said)
        return Outcome(result, text, value, is_written=is_written)

    def _as_json(self, value: Any, message: Message) -> tuple[Any, str]:
        """The result as JSON carries it, and its text; what cannot be kept is no reason to fail."""
        try:
            result = self._host.arguments.encode_value(value, "result")
            text = json.dumps(result)
        except Exception as error:  # the work is done
            logger.warning(
                "%s: %s Its result is not kept.", message.name, described(error),
                extra={"action": "result_dropped", "job": message.job_id},
            )  # fmt: skip
            return None, "null"
        if len(text) > self._ledger.longest["result"]:
            logger.warning(
                "%s: its result of %s characters is longer than 'frappe_jobs_max_result' allows; "
                "its head and its tail are kept, as a text.", message.name, f"{len(text):,}",
                extra={"action": "result_cut", "job": message.job_id},
            )  # fmt: skip
            result = bounded(text, self._ledger.longest["result"])
            text = json.dumps(result)
        return result, text

    def _log_error(self, message: Message, error: BaseException) -> None:
        try:
            self._host.log_error(message.name, presentable(error))
        except BaseException:  # noqa: B036 - whatever it is, the job's end is not written yet
            logger.exception("%s failed, and its error could not be logged", message.name)

    def _tracked(self, message: Message, outcome: Outcome) -> Outcome:
        """The same outcome, once the record of a tracked job says so, after its rollback."""
        waits = outcome.run_again_in is not None
        if message.task_id is None or outcome.error is None:
            return outcome
        if waits and self._host.is_out_of_reach(outcome.error):
            return outcome
        status = task_record.QUEUED if waits else task_record.FAILED
        trace = self._ledger.kept("traceback", traceback_of(outcome.error))
        return replace(outcome, is_written=self._tracking.ended(message, status, exception=trace))

    def _failure(
        self,
        message: Message,
        error: BaseException,
        attempt: Attempt,
        timed_out: type[BaseException],
        never_reached: bool,
        *,
        may_be_committed: bool = False,
    ) -> Outcome:
        """What an error means: the end of the job, or another attempt later.

        ``never_reached``: the job could do nothing yet, its database is away.
        ``may_be_committed``: a call that waited for the commit may have raised it, when the
        method's work was done.
        """
        if isinstance(error, timed_out):
            reason = f"timed out after {message.timeout} s"
        else:
            reason = described(error)
        retries, delay = attempt.retries, None
        if never_reached:  # as long as it takes
            delay = ceil(_insist(lambda: self._away.note_away(message.site), message, timed_out))
        elif self._is_passing(error):
            delay = retries + 1 if retries < CONFLICT_RETRIES else None
        elif isinstance(error, BadMessage):
            pass  # it would be as bad the next time
        elif message.retry and retries < message.retry.max and not may_be_committed:
            delay = message.retry.delay(retries + 1)
        return Outcome(
            error=error, reason=reason, run_again_in=delay, could_not_begin=never_reached
        )

    def _note_reach(self, site: str, session: Session, outcome: Outcome) -> None:
        """Note that its database answers, or that this job had nothing to ask of it."""
        try:
            if session.was_connected:
                self._away.note_reached(site)
            elif not outcome.could_not_begin:
                self._away.note_untried(site)
        except BrokerUnavailable as error:  # it shows itself at the next try
            logger.warning("nobody knows yet that the database of %s answers: %s", site, error)

    def _is_passing(self, error: BaseException) -> bool:
        return (
            isinstance(error, RetryBackgroundJobError)
            or self._host.is_out_of_reach(error)
            or self._host.is_conflict(error)
        )

    def _settle_for_sure(
        self, message: Message, outcome: Outcome, run: Run, timed_out: type[BaseException]
    ) -> bool:
        try:
            return _insist(lambda: self._settle(message, outcome, run), message, timed_out)
        except Exception as error:  # Redis is there, and does not take these fields
            logger.exception("what became of %s cannot be kept as it is", message.name)
            bare = outcome.bare(error)
            return _insist(lambda: self._settle(message, bare, run), message, timed_out)

    def _settle(self, message: Message, outcome: Outcome, run: Run) -> bool:
        """Write into the record what became of the attempt; whether this ended the job.

        It does not where somebody else did before: who cancelled it, or the worker's parent; nor
        where the job runs elsewhere by now, as this process stood still for too long.
        """
        if outcome.error is None:
            return self._ledger.end(
                message, FINISHED, {"result": outcome.text},
                is_written=outcome.is_written, holder=run.holder, call=run.id,
            )  # fmt: skip
        fields = outcome.failure()
        if outcome.run_again_in is None:
            return self._ledger.end(
                message, FAILED, fields,
                is_written=outcome.is_written, holder=run.holder, call=run.id,
            )  # fmt: skip
        # The record first: a worker that is killed before the retry is sent still holds its own
        # message, which comes back.
        self._ledger.wait_for_retry(
            message, outcome.run_again_in, fields,
            holder=run.holder, counts=not outcome.could_not_begin,
        )  # fmt: skip
        logger.warning(
            "%s is run again in %s s: %s", message.name, outcome.run_again_in, outcome.reason,
            extra={"action": "job_retried", "job": message.job_id},
        )  # fmt: skip
        return False

    def _end_for_sure(
        self, message: Message, status: str, reason: str | None, timed_out: type[BaseException]
    ) -> bool:
        """End a job whose method does not run; whether this ended it."""
        call, said = uuid4().hex, {"reason": reason} if reason else {}
        return _insist(
            lambda: self._ledger.end(message, status, said, call=call), message, timed_out
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
            callback = self._host.methods.resolve(path, message.site)
            job = self._host.job_for_callback(self._jobs.of_message(message))
            callback(job, self._ledger.redis, *arguments)
        except BaseException:  # noqa: B036 - its code is the app's
            _log_and_go_on(f"the callback {path}", message)

    def _refuse(self, message: Message, refusal: Refusal, timed_out: type[BaseException]) -> None:
        """Drop a message whose job has ended, put back one that runs elsewhere, end what kills."""
        if refusal.wait is not None:
            raise RunAgain(ceil(refusal.wait) + 1)
        if refusal.forged:
            raise ForgedMessage(
                f"It bears the id of another job than {message.name} of {message.site}."
            )
        if refusal.superseded:
            self._end_for_sure(message, CANCELLED, "superseded: its job_id is another's", timed_out)
            self._tracking.settle_if_possible([message])
        if refusal.died:
            reason = f"its process died {refusal.died} times"
            ended = self._end_for_sure(message, FAILED, reason, timed_out)
            self._tracking.settle_if_possible([message])
            if ended and message.on_failure:
                with self._host.session(message.site, message.user):
                    self._call_back(message, Outcome(error=JobFailed(reason), reason=reason))
            raise JobFailed(reason)
        logger.info(
            "%s had ended before; its message is dropped", message.name,
            extra={"action": "job_dropped", "job": message.job_id},
        )  # fmt: skip

    def _report_failure(self, message: Message, timed_out: type[BaseException]) -> None:
        """Call the on_failure of another message, whose process was killed before it could.

        Refused where that one has not failed, or is another site's: any could be named.
        """
        failed = _insist(
            lambda: self._ledger.read(str(message.failure_of)), message, timed_out
        )  # None: deleted meanwhile
        if failed and (failed.message.site, failed.status) != (message.site, FAILED):
            reason = f"no job of {message.site} that failed is the one whose failure it reports"
            self._end_for_sure(message, FAILED, reason, timed_out)
            raise JobFailed(reason)
        self._end_for_sure(message, FINISHED, None, timed_out)
        if failed:
            with self._host.session(failed.message.site, failed.message.user):
                reason = failed.reason or ""
                self._call_back(failed.message, Outcome(error=JobFailed(reason), reason=reason))

    def _call_after_hooks(
        self, message: Message, kwargs: Mapping[str, Any], outcome: Outcome
    ) -> None:
        """Call every after_job hook; the method is committed, or rolled back, whatever they do."""
        try:
            hooks = self._host.methods.hooks("after_job", message.site)
        except FrappeJobsError:
            return _log_and_go_on("finding the after_job hooks", message)
        for path in hooks:
            try:
                self._call_hook(path, message, kwargs, result=outcome.value)
            except BaseException:  # noqa: B036 - its code is the app's
                _log_and_go_on(f"the after_job hook {path}", message)

    def _call_hook(
        self, path: str, message: Message, kwargs: Mapping[str, Any], **options: Any
    ) -> None:
        hook = self._host.methods.resolve(path, message.site)
        call(hook, method=message.method, kwargs=kwargs, **options)


def _insist(call: Callable[[], Value], message: Message, timed_out: type[BaseException]) -> Value:
    """Call it until the ledger can be reached: what is done must not be done again.

    Should that take too long for the job's lease, the worker's parent kills this process.
    """
    said = ""
    while True:
        try:
            return call()
        except BrokerUnavailable as error:
            if said != (said := str(error)):
                logger.error("the record of %s cannot be written yet: %s", message.name, error)
            threading.Event().wait(LEDGER_PAUSE)
        except timed_out:  # too early or too late: the method does not run
            continue


def _log_and_go_on(what: str, message: Message) -> None:
    logger.exception(
        "%s: %s failed; the job's end stands", message.name, what,
        extra={"action": "callback_failed", "job": message.job_id},
    )  # fmt: skip
