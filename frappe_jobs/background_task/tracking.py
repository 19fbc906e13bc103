"""A tracked job's record, its Background Task, follows the job: it runs, how far it is, its end.

The ledger decides what becomes of a job.  The step that ends it also notes there what the record
does not say yet, which is written at once if possible, else later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from math import inf, isfinite
from typing import Any

from frappe_jobs.background_task.ends import UnwrittenEnds
from frappe_jobs.background_task.record import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    OPEN,
    RUNNING,
    end_values,
    facts,
    queued,
    record_of,
)
from frappe_jobs.current import CurrentJob
from frappe_jobs.errors import FrappeJobsError, RecordNotWritten
from frappe_jobs.host.port import Host
from frappe_jobs.host.session import Session
from frappe_jobs.host.task_records import TaskChange
from frappe_jobs.ledger import Ledger
from frappe_jobs.message import Message

logger = logging.getLogger(__name__)

#: Seconds at least between two writings of a job's progress.
PACE = 1.0
#: Seconds to wait for a record that another transaction has locked; then it is written later.
PATIENCE = 2.0
#: Records written in one transaction.
CHUNK = 500


@dataclass
class Run:
    """A tracked job that runs here: its session, and the progress that it has told."""

    session: Session
    said: dict[str, Any] = field(default_factory=dict)
    stored: str | None = None  # the result that it has stored itself, as JSON
    noted_at: float = -inf  # by the monotonic clock


class Tracking:
    """Keeps the records of tracked jobs; does nothing for other jobs."""

    def __init__(self, host: Host, ledger: Ledger, patience: float = PATIENCE) -> None:
        self._host, self._ledger, self._patience = host, ledger, patience
        self._ends = UnwrittenEnds(ledger)
        self._runs: dict[str, Run] = {}  # by message id

    # --- in the job's process

    def begin(self, message: Message, session: Session) -> None:
        """Note that it runs; a record that was lost is added.  Raises DatabaseUnavailable."""
        if message.task_id is None:
            return
        self._runs[message.id] = Run(session)
        values = queued(message) | {"status": RUNNING, "started_at": _now()}
        # Whoever cancelled it meanwhile may have written that, and is about to kill this process.
        change = TaskChange(
            message.task_id, values, unless_ended=message.id,
            otherwise=record_of(message) | values,
        )  # fmt: skip
        try:
            self._host.tasks.change_beside(message.site, [change], patience=self._patience)
        except RecordNotWritten as error:  # no reason to keep the job from its work
            logger.warning("%s: %s", message.name, error)

    def publish(
        self,
        job: CurrentJob,
        percent: float | None,
        stage: str | None = None,
        doctype: Any = None,
        docname: Any = None,
    ) -> None:
        """Say how far the job is that runs here, to whoever looks at it; raises BrokerUnavailable.

        Its record, if it is tracked, says so about once a second.
        """
        said = {} if percent is None else {"progress": str(float(percent))}
        said |= {"stage": str(stage)} if stage else {}
        self._ledger.note(job.message, said, holder=job.holder)
        self.note_progress(job.message, percent, stage, doctype, docname)

    def note_progress(
        self, message: Message, percent: float | None, stage: str | None, doctype: Any, docname: Any
    ) -> None:
        """Remember how far the job is, and write it into the record about once a second."""
        run = self._runs.get(message.id)
        if run is None or message.task_id is None:
            return
        if percent is not None and isfinite(percent):
            run.said["progress"] = float(percent)
        if stage:
            run.said["stage"] = str(stage)
        if doctype and docname is not None:
            run.said |= {"ref_doctype": str(doctype), "ref_docname": str(docname)}
        if run.said and time.monotonic() - run.noted_at >= PACE:
            change = TaskChange(message.task_id, dict(run.said), message_id=message.id)
            if self._host.tasks.note_progress(run.session, change):
                run.noted_at = time.monotonic()

    def store(self, message: Message, result: str) -> None:
        """Write a result into the record, in the job's own transaction.

        It stays if the method returns None.
        """
        if run := self._runs.get(message.id):
            run.stored = result
            change = TaskChange(message.task_id or "", {"result": result}, message_id=message.id)
            try:
                self._host.tasks.change(run.session, change, patience=self._patience)
            except RecordNotWritten as error:  # it is written when the job is completed
                logger.info("%s: %s", message.name, error)

    def complete(self, message: Message, session: Session, result: str | None) -> bool:
        """Note in the job's own transaction that it is done; False: it must be noted later."""
        if message.task_id is None:
            return True
        values = self._last_words(message, COMPLETED, result)
        change = TaskChange(message.task_id, values, message_id=message.id)
        try:
            self._host.tasks.change(session, change, patience=self._patience)
        except RecordNotWritten as error:
            logger.info("%s: %s", message.name, error)
            return False
        return True

    def ended(
        self,
        message: Message,
        status: str,
        *,
        result: str | None = None,
        exception: str | None = None,
        before: Collection[str] = (*OPEN, COMPLETED),
    ) -> bool:
        """Note how the job ended, or that it waits for a retry; False: it must be noted later.

        To be called when its transaction is over.  Unless it is completed, only if the record's
        status is one of ``before``: what was cancelled meanwhile stays so.
        """
        if message.task_id is None:
            return True
        values = self._last_words(message, status, result, exception)
        statuses = () if status == COMPLETED else before
        change = TaskChange(message.task_id, values, message.id, statuses)
        try:
            return self._host.tasks.change_beside(message.site, [change], patience=PATIENCE)
        except FrappeJobsError as error:
            logger.warning("the record of %s is written later: %s", message.name, error)
            return False

    def leave(self, message: Message) -> None:
        """Forget what the job has told here."""
        self._runs.pop(message.id, None)

    def _last_words(
        self, message: Message, status: str, result: str | None, exception: str | None = None
    ) -> dict[str, Any]:
        run = self._runs.get(message.id)
        said = dict(run.said) if run else {}
        if status == COMPLETED:
            said["progress"] = 100.0
            result = result or (run.stored if run else None)
        ended_at = _now() if status in ENDED else None
        said |= {"result": result} if result else {}
        return said | {"status": status, "ended_at": ended_at, "exception": exception}

    # --- wherever a job is ended, or looked at

    def settle(self, site: str) -> None:
        """Write the ends that the site's records do not say yet.

        What is completed stays so: its work was committed with it.  Raises BrokerUnavailable,
        DatabaseUnavailable, RecordNotWritten.
        """
        ends = [*self._ends.of(site).items()]
        for start in range(0, len(ends), CHUNK):
            chunk = dict(ends[start : start + CHUNK])
            known = {record.message.id: record for record in self._ledger.read_all([*chunk])}
            changes = [
                TaskChange(
                    end.task_id, end_values(end, known.get(message_id)), message_id,
                    statuses=(*OPEN, FAILED, CANCELLED),
                )
                for message_id, end in chunk.items()
            ]  # fmt: skip
            written = partial(self._ends.written, site, [*chunk])
            self._host.tasks.change_beside(site, changes, written, patience=self._patience)

    def settle_if_possible(self, messages: Iterable[Message]) -> None:
        """As ``settle``, for the sites of tracked jobs among these; what fails is done later."""
        for site in {message.site for message in messages if message.task_id}:
            try:
                self.settle(site)
            except FrappeJobsError as error:
                logger.warning("records of tracked jobs of %s are written later: %s", site, error)

    def requeued(self, message: Message) -> None:
        """Note that a job that has ended waits again, as that message.

        Raises DatabaseUnavailable, RecordNotWritten.
        """
        if message.task_id:
            values = queued(message) | {"arguments": message.arguments_json}
            change = TaskChange(message.task_id, values, otherwise=record_of(message))
            self._host.tasks.change_beside(message.site, [change], patience=self._patience)

    def never_sent(self, message: Message, why: object) -> None:
        """Note that it is cancelled: its message could not be sent, or was not to be."""
        self.ended(message, CANCELLED, exception=f"it was never sent: {why}", before=OPEN)

    def close(self, site: str, tasks: Mapping[str, str], status: str, why: str) -> None:
        """End the records of jobs that nobody knows of; ``tasks``: message ids by task id.

        Raises DatabaseUnavailable, RecordNotWritten.
        """
        values = {"status": status, "exception": why, "ended_at": _now()}
        changes = [
            TaskChange(task_id, values, message_id, OPEN) for task_id, message_id in tasks.items()
        ]
        self._host.tasks.change_beside(site, changes, patience=self._patience)

    def live(self, site: str, message_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What the ledger knows of these jobs of the site: fields of their records by message id.

        Jobs that are no longer kept are left out.  Raises BrokerUnavailable.
        """
        # The database may be a copy of another site's, whose jobs are not this site's.
        records = self._ledger.read_all([*message_ids])
        return {rec.message.id: facts(rec) for rec in records if rec.message.site == site}


def _now() -> datetime:
    return datetime.now(timezone.utc)
