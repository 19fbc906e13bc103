"""From a message to its run: the job is leased, run in its site, and settled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import ceil
from typing import Any

from frappe_jobs.effects.run import LeaseLost, PutOff
from frappe_jobs.execute import RunAgain
from frappe_jobs.execute.ending import Parts, log_and_go_on
from frappe_jobs.execute.refused import Refused
from frappe_jobs.ledger.record import Attempt, Refusal
from frappe_jobs.message import Held, Message
from frappe_jobs.outcome import Outcome

logger = logging.getLogger(__name__)


class Executor(Parts):
    """Runs the messages that a worker takes."""

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


class Execution(Refused):
    """One run of one message, from its lease to what its record says."""

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
                log_and_go_on("closing the site", message)
        if outcome.run_again_in is not None:
            cause = None if isinstance(outcome.error, PutOff) else outcome.error
            raise RunAgain(outcome.run_again_in) from cause
        if outcome.error:
            raise outcome.error
        return outcome.result
