"""What became of a run goes into the job's record, whatever is out of reach meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from frappe_jobs import current
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.effects.run import PutOff
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.host.done_markers import DoneMarkers
from frappe_jobs.host.port import Host
from frappe_jobs.job import Jobs
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.away import AwaySites
from frappe_jobs.ledger.record import FAILED, FINISHED
from frappe_jobs.message import Held, Message
from frappe_jobs.outcome import Outcome

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

#: Seconds between two tries to reach the ledger, when a job begins or ends.
LEDGER_PAUSE = 0.5


@dataclass(frozen=True)
class Parts:
    """What each run needs of its bench."""

    host: Host
    ledger: Ledger
    jobs: Jobs
    tracking: Tracking
    away: AwaySites
    markers: DoneMarkers | None = None


class Ending:
    """One run of one message: what it has at hand, and what its record says of it."""

    def __init__(
        self,
        parts: Parts,
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
            log_and_go_on(f"the callback {path}", message)

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


def log_and_go_on(what: str, message: Message) -> None:
    logger.exception(
        "%s: %s failed; the job's end stands", message.name, what,
        extra={"action": "callback_failed", "job": message.job_id},
    )  # fmt: skip
