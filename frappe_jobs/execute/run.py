"""The method between its hooks: user, commit or rollback, and what an error means."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from math import ceil
from typing import Any

from frappe_jobs import current
from frappe_jobs.background_task import record as task_record
from frappe_jobs.effects.run import Effects, LeaseLost, PutOff, running
from frappe_jobs.errors import (
    BadMessage,
    BrokerUnavailable,
    FrappeJobsError,
    RetryBackgroundJobError,
    TransactionConflict,
)
from frappe_jobs.execute.ending import Ending, log_and_go_on
from frappe_jobs.host.done_markers import AlreadyDone
from frappe_jobs.host.session import Session
from frappe_jobs.ledger.record import Attempt
from frappe_jobs.methods import call
from frappe_jobs.outcome import Outcome
from frappe_jobs.texts.error_text import bounded, described, presentable, traceback_of

logger = logging.getLogger(__name__)

#: How often a job is run again after a deadlock, a lock wait timeout or RetryBackgroundJobError, as
#: in Frappe.
CONFLICT_RETRIES = 5
#: The error's name in a job's record.
TRANSACTION_CONFLICT = f"{TransactionConflict.__module__}.{TransactionConflict.__qualname__}"
#: Seconds after which a worker that was told to stop takes no more messages.
UNTIL_IT_TAKES_NOTHING = 1


class Run(Ending):
    """One run of a job's method."""

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
            return log_and_go_on("finding the after_job hooks", message)
        for path in hooks:
            try:
                self._call_hook(path, result=outcome.value)
            except BaseException:  # noqa: B036 - its code is the app's
                log_and_go_on(f"the after_job hook {path}", message)

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
