"""One run of a job in its site: user, hooks, method, commit or rollback, and its record."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any, TypeVar
from uuid import uuid4

from frappe_jobs import current
from frappe_jobs.background_task import record as task_record
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.effects.run import Effects, LeaseLost, PutOff, running
from frappe_jobs.errors import (
    BadMessage,
    BrokerUnavailable,
    ForgedMessage,
    FrappeJobsError,
    JobFailed,
    RetryBackgroundJobError,
    TransactionConflict,
)
from frappe_jobs.host.done_markers import AlreadyDone, DoneMarkers
from frappe_jobs.host.port import Host
from frappe_jobs.host.session import Session
from frappe_jobs.job import Jobs
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.away import AwaySites
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, Attempt, Refusal
from frappe_jobs.message import Held, Message
from frappe_jobs.methods import call
from frappe_jobs.outcome import Outcome
from frappe_jobs.texts.error_text import bounded, described, presentable, traceback_of

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

#: How often a job is run again after a deadlock, a lock wait timeout or RetryBackgroundJobError, as
#: in Frappe.
CONFLICT_RETRIES = 5
#: The error's name in a job's record.
TRANSACTION_CONFLICT = f"{TransactionConflict.__module__}.{TransactionConflict.__qualname__}"
#: Why a job was cancelled that had not begun in time.
EXPIRED = "expired"
#: Seconds between two tries to reach the ledger, when a job begins or ends.
LEDGER_PAUSE = 0.5
#: How many processes may die while they look whether a job is done of which too many have died.
LOOKS = 3
#: Seconds after which a worker that was told to stop takes no more messages.
UNTIL_IT_TAKES_NOTHING = 1


class RunAgain(Exception):
    """The job was rolled back and waits for its next attempt, ``delay`` seconds from now."""

    def __init__(self, delay: int) -> None:
        super().__init__(delay)
        self.delay = delay


class Expired(Exception):
    """The job had not begun in time, and has been cancelled."""


class GivenBack(Exception):
    """The worker holds the message no longer: it waits for any worker again, or is with another."""


class OthersGoFirst(Exception):
    """The message was taken ahead, and by now another job is to go first, or it is paused."""


class Executor:
    """Runs the messages that a worker takes."""

    def __init__(
        self,
        host: Host,
        ledger: Ledger,
        jobs: Jobs,
        tracking: Tracking,
        away: AwaySites,
        markers: DoneMarkers | None = None,
    ) -> None:
        self.host, self.ledger, self.jobs = host, ledger, jobs
        self.tracking, self.away, self.markers = tracking, away, markers

    def execute(
        self,
        message: Message,
        *,
        holder: str,
        timed_out: type[BaseException],
        leave: Callable[[], object] = lambda: None,
        must_stop: Callable[[], bool] = lambda: False,
        held: Held | None = None,
    ) -> Any:
        """Run the message's method and return its result as JSON carries it.

        The job's end is in its record before this returns, or raises the method's own error.
        Raises RunAgain if another attempt is due, another process holds the lease, or the site's
        database was away; Expired if it was too late to begin; GivenBack or OthersGoFirst if its
        message has to go back, or has gone.  Nothing is run, and None returned,
        if the job has ended before.

        ``holder`` holds the job's lease meanwhile, and renews it.  ``timed_out`` is what the worker
        raises in a job at its timeout.  ``leave`` ends what a failed run has started.
        ``must_stop`` says whether the worker is to stop as soon as it can.  ``held``: how it holds
        the message, if that is known.
        """
        return Execution(self, message, holder, timed_out, leave, must_stop, held).go()


class Execution:
    """One run of one message, from its lease to what its record says."""

    def __init__(
        self,
        parts: Executor,
        message: Message,
        holder: str,
        timed_out: type[BaseException],
        leave: Callable[[], object],
        must_stop: Callable[[], bool],
        held: Held | None,
    ) -> None:
        self._host, self._ledger, self._jobs = parts.host, parts.ledger, parts.jobs
        self._tracking, self._away = parts.tracking, parts.away
        self._markers = parts.markers
        self._message, self._timed_out, self._leave = message, timed_out, leave
        self._holder, self._must_stop, self._held = holder, must_stop, held
        #: The run's own id: the ledger gives it the same answer if it asks again.
        self._id = uuid4().hex
        self._retries = 0
        self._retries_left = current.Retries()
        self._kwargs: dict[str, Any] = {}
        self._has_returned = False

    def go(self) -> Any:
        message = self._message
        if rest := self._insist(lambda: self._away.rest(message.site)):
            return self._put_back(ceil(rest))
        started = self._insist(
            lambda: self._ledger.start(message, self._holder, self._id, self._held)
        )
        self._host.clear()
        try:
            if isinstance(started, Refusal):
                return self._refuse(started)
            if message.failure_of:
                return self._report_failure(message.failure_of)
            self._retries = started.retries
            if message.retry:
                self._retries_left.left = max(0, message.retry.max - started.retries)
            return self._attempt(started)
        finally:
            self._tracking.leave(message)
            self._host.clear()

    def _attempt(self, attempt: Attempt) -> Any:
        message = self._message
        outcome: Outcome | None = None
        ended: bool | None = None
        try:
            with self._host.session(message.site, message.user) as session:
                outcome = self._run(session, attempt)
                if outcome.error is not None:  # before it may run elsewhere
                    self._insist(self._leave)
                self._note_reach(session, outcome)
                ended = self._settle_for_sure(outcome)
                if ended:
                    self._call_back(message, outcome)
        except LeaseLost:
            self._insist(self._leave)
            return logger.warning(
                "%s runs elsewhere by now, or has ended: what this run did is rolled back",
                message.name, extra={"action": "job_rolled_back", "job": message.job_id},
            )  # fmt: skip
        except BaseException as error:
            if outcome is None:  # the site could not be opened
                outcome = self._failure(error, self._host.is_out_of_reach(error))
                self._settle_for_sure(outcome)
            elif ended is None:  # the record does not say its end: the message comes back
                raise
            else:  # the record says its end
                _log_and_go_on("closing the site", message)
        if outcome.run_again_in is not None:
            cause = None if isinstance(outcome.error, PutOff) else outcome.error
            raise RunAgain(outcome.run_again_in) from cause
        if outcome.error:
            raise outcome.error
        return outcome.result

    # --- the method between its hooks

    def _run(self, session: Session, attempt: Attempt) -> Outcome:
        """Whatever the method raises is in the outcome; raises LeaseLost."""
        message, kwargs = self._message, self._kwargs
        session.writes_first = self._met_conflict()
        effects = self._effects(session, attempt.may_have_run or message.goes_on is not None)
        here = current.running(message, kwargs, attempt.number, self._holder, self._retries_left)
        with here, running(effects), self._host.running(message, kwargs):
            try:
                done = self._done_before(effects) if attempt.may_have_run else None
                outcome = done or self._run_method(session, effects)
            except BaseException as error:  # noqa: B036 - it is in the outcome
                session.rollback()
                if isinstance(error, LeaseLost):
                    raise
                outcome = self._what_became_of_it(effects, error)
            if outcome.run_again_in is None:
                if outcome.error:
                    self._log_error(outcome.error)
                self._call_after_hooks(outcome)
        return outcome

    def _effects(self, session: Session, may_have_run: bool) -> Effects:
        return Effects(
            self._message, self._id, session, self._ledger, self._host.arguments, self._markers,
            may_have_run, self._must_stop,
        )  # fmt: skip

    def _run_method(self, session: Session, effects: Effects) -> Outcome:
        message, kwargs = self._message, self._kwargs
        self._tracking.begin(message, session)
        kwargs.update(self._host.arguments.decode(message.arguments))
        method = self._host.methods.resolve(message.method, message.site)
        for path in self._host.methods.hooks("before_job", message.site):
            self._call_hook(path, transaction_type="job")
        value = method(**kwargs)
        self._has_returned = True
        return self._commit(session, effects, value)

    def _met_conflict(self) -> bool:
        """Whether its last attempt met a conflict, so that this one is to write before it reads."""
        try:
            record = self._ledger.read(self._message.id) if self._retries else None
        except BrokerUnavailable:  # then it may meet another conflict
            return False
        return record is not None and record.error == TRANSACTION_CONFLICT

    def _commit(self, session: Session, effects: Effects, value: Any) -> Outcome:
        """After the method has returned: commit its work, with the note that it is done."""
        message = self._message
        result, text = self._as_json(value)
        said = None if result is None else text
        is_written = self._tracking.complete(message, session, said)
        effects.commit(text)
        if not is_written:
            is_written = self._tracking.ended(message, task_record.COMPLETED, result=said)
        return Outcome(result, text, value, is_written=is_written)

    def _as_json(self, value: Any) -> tuple[Any, str]:
        """The result as JSON carries it, and as a text; None and ``null`` if JSON cannot."""
        message = self._message
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

    # --- what is done is not done again

    def _done_before(self, effects: Effects) -> Outcome | None:
        """The end of a job whose work was committed before; None if it was not."""
        message, marker = self._message, effects.done()
        if marker is None:
            return None
        logger.warning(
            "%s was done before, and nobody had noted it; it does not run again", message.name,
            extra={"action": "job_done_before", "job": message.job_id},
        )  # fmt: skip
        text = marker.result or "null"
        result = json.loads(text)
        said = None if result is None else text
        is_written = self._tracking.ended(message, task_record.COMPLETED, result=said)
        value = self._host.arguments.decode_value(result)
        return Outcome(result, text, value, is_written=is_written)

    def _what_became_of_it(self, effects: Effects, error: BaseException) -> Outcome:
        """The outcome of a run that raised, after its rollback.

        If it had tried to commit, the reply may be lost, or a call after the commit may have
        raised: the database knows whether the work is committed.
        """
        if isinstance(error, PutOff):
            delay = UNTIL_IT_TAKES_NOTHING if self._must_stop() else 0
            return self._tracked(Outcome(error=error, reason="put off", run_again_in=delay))
        is_lost = self._host.is_out_of_reach(error)
        never_reached = is_lost and not effects.session.was_connected
        if not effects.is_marked:
            failure = self._failure(error, never_reached, may_be_committed=self._has_returned)
            return self._tracked(failure)
        try:
            done = self._done_before(effects)
        except Exception as away:  # asked again when the message comes back
            return self._failure(away, never_reached=True)
        if done is None:
            return self._tracked(self._failure(error, never_reached))
        if is_lost or isinstance(error, (AlreadyDone, self._timed_out)):
            return done
        return self._tracked(Outcome(error=error, reason=described(error)))

    def _log_error(self, error: BaseException) -> None:
        name = self._message.name
        try:
            self._host.log_error(name, presentable(error))
        except BaseException:  # noqa: B036 - the job's end must still be written
            logger.exception("%s failed, and its error could not be logged", name)

    def _call_after_hooks(self, outcome: Outcome) -> None:
        """Call every after_job hook; errors in them do not change the job's end."""
        message = self._message
        try:
            hooks = self._host.methods.hooks("after_job", message.site)
        except FrappeJobsError:
            return _log_and_go_on("finding the after_job hooks", message)
        for path in hooks:
            try:
                self._call_hook(path, result=outcome.value)
            except BaseException:  # noqa: B036 - its code is the app's
                _log_and_go_on(f"the after_job hook {path}", message)

    def _call_hook(self, path: str, **options: Any) -> None:
        message = self._message
        hook = self._host.methods.resolve(path, message.site)
        call(hook, method=message.method, kwargs=self._kwargs, **options)

    # --- what an error means

    def _tracked(self, outcome: Outcome) -> Outcome:
        """The same outcome, after it was written into the Background Task of a tracked job."""
        message = self._message
        waits = outcome.run_again_in is not None
        if message.task_id is None or outcome.error is None:
            return outcome
        if waits and self._host.is_out_of_reach(outcome.error):
            return outcome
        status = task_record.QUEUED if waits else task_record.FAILED
        trace = self._ledger.kept("traceback", traceback_of(outcome.error))
        return replace(outcome, is_written=self._tracking.ended(message, status, exception=trace))

    def _failure(
        self, error: BaseException, never_reached: bool, *, may_be_committed: bool = False
    ) -> Outcome:
        """The end of the job, or another attempt later.

        ``never_reached``: its database is away, and it has done nothing.  ``may_be_committed``: a
        call after the commit may have raised the error, when the work was done.
        """
        message, retries = self._message, self._retries
        if isinstance(error, self._timed_out):
            reason = f"timed out after {message.timeout} s"
        else:
            reason = described(error)
        delay = None
        if never_reached:  # as long as it takes
            delay = ceil(self._insist(lambda: self._away.note_away(message.site)))
        elif self._is_passing(error):
            delay = retries + 1 if retries < CONFLICT_RETRIES else None
        elif isinstance(error, BadMessage):
            pass  # it would be as bad the next time
        elif message.retry and self._retries_left.left > 0 and not may_be_committed:
            if message.retry.allows(error):
                delay = message.retry.delay(retries + 1)
        if delay is not None and not never_reached and self._will_have_expired(delay):
            delay = None
        return Outcome(
            error=error, reason=reason, run_again_in=delay, could_not_begin=never_reached
        )

    def _will_have_expired(self, delay: int) -> bool:
        expires_at = self._message.expires_at
        return expires_at is not None and expires_at <= self._insist(self._ledger.now) + delay

    def _is_passing(self, error: BaseException) -> bool:
        return (
            isinstance(error, RetryBackgroundJobError)
            or self._host.is_out_of_reach(error)
            or self._host.is_conflict(error)
        )

    def _note_reach(self, session: Session, outcome: Outcome) -> None:
        """Note that its database answers, or that this job did not use it."""
        site = self._message.site
        try:
            if session.was_connected:
                self._away.note_reached(site)
            elif not outcome.could_not_begin:
                self._away.note_untried(site)
        except BrokerUnavailable as error:  # the next job finds out
            logger.warning("nobody knows yet that the database of %s answers: %s", site, error)

    # --- what its record says

    def _settle_for_sure(self, outcome: Outcome) -> bool:
        try:
            return self._insist(lambda: self._settle(outcome))
        except Exception as error:  # Redis answers, and does not take these fields
            logger.exception("what became of %s cannot be kept as it is", self._message.name)
            bare = outcome.bare(error)
            return self._insist(lambda: self._settle(bare))

    def _settle(self, outcome: Outcome) -> bool:
        """Write into the record what became of the attempt; gives whether this ended the job.

        Not if it was cancelled, or the worker's parent has ended it, or it runs elsewhere by now
        because this process stood still for too long.
        """
        message = self._message
        if outcome.run_again_in is None:
            is_done = outcome.error is None
            return self._ledger.end(
                message, FINISHED if is_done else FAILED,
                {"result": outcome.text} if is_done else outcome.failure(),
                is_written=outcome.is_written, holder=self._holder, call=self._id,
            )  # fmt: skip
        if isinstance(outcome.error, PutOff):
            return self._put_off(outcome.run_again_in)
        # From here on the ledger has the retry: the message that this run had may come back.
        self._ledger.wait_for_retry(
            message, outcome.run_again_in, outcome.failure(),
            holder=self._holder, counts=not outcome.could_not_begin,
        )  # fmt: skip
        logger.warning(
            "%s is run again in %s s: %s", message.name, outcome.run_again_in, outcome.reason,
            extra={"action": "job_retried", "job": message.job_id},
        )  # fmt: skip
        return False

    def _put_off(self, delay: int) -> bool:
        message = self._message
        self._ledger.wait_for_retry(
            message, delay, {"goes_on": "1"}, holder=self._holder, counts=False
        )
        logger.info(
            "%s is put off, and goes on where it is", message.name,
            extra={"action": "job_put_off", "job": message.job_id},
        )  # fmt: skip
        return False

    def _end_for_sure(self, status: str, **fields: str) -> bool:
        """End a job whose method does not run; gives whether this ended it."""
        call = uuid4().hex
        return self._insist(lambda: self._ledger.end(self._message, status, fields, call=call))

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

    # --- messages whose method does not run

    def _put_back(self, delay: int) -> Any:
        """Have it wait until its database may answer again; raises RunAgain unless it has ended."""
        message = self._message
        logger.info(
            "%s is put back: the database of %s is out of reach", message.name, message.site,
            extra={"action": "job_put_back", "job": message.job_id},
        )  # fmt: skip
        if not self._insist(lambda: self._ledger.put_back(message, delay)):
            return self._refuse(Refusal())
        raise RunAgain(delay)

    def _end_killer(self, refusal: Refusal) -> Any:
        """Fail a job of which too many processes died, unless one of them has committed its work:
        whoever retried that would do it twice.

        Opening its site may be what they die of, so that is not tried for ever.
        """
        message, reason = self._message, f"its process died {refusal.died} times"
        outcome = Outcome(error=JobFailed(reason), reason=reason)
        if refusal.died_ending_it >= LOOKS:
            self._fail(outcome)
            raise JobFailed(reason)
        try:
            with self._host.session(message.site, message.user) as session:
                outcome = self._done_before(self._effects(session, True)) or outcome
                if outcome.error is None:
                    ended = self._end_for_sure(FINISHED, result=outcome.text)
                    self._call_after_hooks(outcome)
                else:
                    ended = self._fail(outcome)
                if ended:
                    self._call_back(message, outcome)
        except Exception as error:
            if self._host.is_out_of_reach(error):
                return self._put_back(
                    ceil(self._insist(lambda: self._away.note_away(message.site)))
                )
            self._fail(outcome)
        if outcome.error:
            raise outcome.error
        return outcome.result

    def _fail(self, outcome: Outcome) -> bool:
        ended = self._end_for_sure(FAILED, reason=outcome.reason)
        self._tracking.settle_if_possible([self._message])
        return ended

    def _refuse(self, refusal: Refusal) -> Any:
        """Drop a message whose job has ended; put back a job that runs elsewhere; end a killer."""
        message = self._message
        if refusal.wait is not None:
            raise RunAgain(ceil(refusal.wait) + 1)
        if refusal.given_back:
            logger.debug("%s was put back meanwhile; this copy is dropped", message.name)
            raise GivenBack
        if refusal.others_first:
            raise OthersGoFirst(f"{message.name} is put back: another job goes first")
        if refusal.delayed:
            return logger.info(
                "%s waits for its time; this message is dropped, as another one comes then",
                message.name, extra={"action": "job_dropped", "job": message.job_id},
            )  # fmt: skip
        if refusal.limited is not None:
            return logger.info(
                "%s waits for its limit: %s", message.name, refusal.limited,
                extra={"action": "job_limited", "job": message.job_id},
            )  # fmt: skip
        if refusal.forged:
            raise ForgedMessage(
                f"It bears the id of another job than {message.name} of {message.site}."
            )
        if refusal.expired:
            logger.info(
                "%s has expired before it was begun, and is cancelled", message.name,
                extra={"action": "job_expired", "job": message.job_id},
            )  # fmt: skip
            self._end_for_sure(CANCELLED, reason=EXPIRED)
            self._tracking.settle_if_possible([message])
            raise Expired
        if refusal.superseded:
            self._end_for_sure(CANCELLED, reason="superseded: its job_id is another's")
            self._tracking.settle_if_possible([message])
        if refusal.died:
            return self._end_killer(refusal)
        logger.info(
            "%s had ended before; its message is dropped", message.name,
            extra={"action": "job_dropped", "job": message.job_id},
        )  # fmt: skip

    def _report_failure(self, message_id: str) -> None:
        """Call the on_failure of another message, whose process was killed.

        Refused if that message has not failed, or is another site's, as any could be named.
        """
        site = self._message.site
        failed = self._insist(lambda: self._ledger.read(message_id))  # None: deleted meanwhile
        if failed and (failed.message.site, failed.status) != (site, FAILED):
            reason = f"no job of {site} that failed is the one whose failure it reports"
            self._end_for_sure(FAILED, reason=reason)
            raise JobFailed(reason)
        self._end_for_sure(FINISHED)
        if failed:
            with self._host.session(failed.message.site, failed.message.user):
                reason = failed.reason or ""
                self._call_back(failed.message, Outcome(error=JobFailed(reason), reason=reason))

    def _insist(self, call: Callable[[], Value]) -> Value:
        """Call it until the ledger can be reached: work that is done must not be done again.

        If that takes longer than the job's lease, the worker's parent kills this process.
        """
        said = ""
        while True:
            try:
                return call()
            except BrokerUnavailable as error:
                if said != (said := str(error)):
                    name = self._message.name
                    logger.error("the record of %s cannot be written yet: %s", name, error)
                threading.Event().wait(LEDGER_PAUSE)
            except self._timed_out:  # the method does not run: there is nothing to interrupt
                continue


def _log_and_go_on(what: str, message: Message) -> None:
    logger.exception(
        "%s: %s failed; the job's end stands", message.name, what,
        extra={"action": "callback_failed", "job": message.job_id},
    )  # fmt: skip
