"""Messages whose method does not run: their jobs wait, run elsewhere, or are at their end."""

from __future__ import annotations

import logging
from math import ceil
from typing import Any

from frappe_jobs.errors import ForgedMessage, JobFailed
from frappe_jobs.execute import EXPIRED, Expired, GivenBack, OthersGoFirst, RunAgain
from frappe_jobs.execute.run import Run
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, Refusal
from frappe_jobs.outcome import Outcome

logger = logging.getLogger(__name__)

#: How many processes may die while they look whether a job is done of which too many have died.
LOOKS = 3


class Refused(Run):
    """One run that the ledger has refused."""

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
