"""Tracked jobs for their users: sent with a record, cancelled, run again, listed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from frappe_jobs.background_task.inside import TasksFromInside
from frappe_jobs.background_task.record import (
    CANCELLED,
    ENDED,
    FAILED,
    LOST,
    facts,
    message_of,
    queued,
    record_of,
)
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.config import Settings
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import (
    FrappeJobsError,
    JobError,
    PermissionError,
    RecordNotWritten,
    RetryBackgroundJobError,
)
from frappe_jobs.host.port import ADMINISTRATOR, Host
from frappe_jobs.host.session import Session
from frappe_jobs.host.task_records import TaskChange
from frappe_jobs.job import Job, Jobs
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import OPEN, STARTED, Record
from frappe_jobs.message import Message, Sending
from frappe_jobs.outbox.at_commit import AtCommit
from frappe_jobs.outbox.sending import Outcomes

logger = logging.getLogger(__name__)

#: Why a handle knows nothing of its job yet.
AT_COMMIT = (
    "it is sent when the transaction commits in which it was enqueued, and never if that rolls back"
)


class Task(Protocol):
    """A Background Task, as the host's document."""

    task_id: str
    message_id: str
    user: str
    status: str
    header: str
    arguments: str
    allow_user_cancellation: bool
    allow_user_retry: bool


class BackgroundTasks:
    """What users do with tracked jobs."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        ledger: Ledger,
        dispatcher: Dispatcher,
        at_commit: AtCommit,
        jobs: Jobs,
        tracking: Tracking,
    ) -> None:
        self._settings, self._host, self._ledger = settings, host, ledger
        self._dispatcher, self._at_commit = dispatcher, at_commit
        self._jobs, self._tracking = jobs, tracking
        self.inside = TasksFromInside(host, tracking)

    def enqueue(
        self,
        sendings: Sequence[Sending],
        session: Session,
        fields: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Job | None]:
        """Write their records in the session's transaction, and send them when it commits.

        ``fields`` are what their records say besides.  None for a sending that claims a job id
        which is taken.  Raises QueueOverloaded, ArgumentError, DatabaseUnavailable, and nothing is
        written.
        """
        self._dispatcher.refuse_overload(sendings)
        free = [
            sending
            for sending in sendings
            if not (sending.claim and self._ledger.is_taken(sending.message))
        ]
        self._host.tasks.add(
            session, [{**record_of(sending.message), **fields} for sending in free]
        )
        jobs = self._send_at_commit(free, session)
        return [jobs.get(sending.message.id) for sending in sendings]

    def _send_at_commit(self, sendings: Sequence[Sending], session: Session) -> dict[str, Job]:
        messages = [sending.message for sending in sendings]
        jobs = {message.id: self._jobs.waiting(message, unsent=AT_COMMIT) for message in messages}
        self._at_commit.send(sendings, session, partial(self._went, messages, jobs))
        return jobs

    def _went(
        self,
        messages: Sequence[Message],
        jobs: dict[str, Job],
        outcomes: Outcomes,
        error: FrappeJobsError | None,
        is_kept: bool,
    ) -> None:
        """Tell the handles, after the commit; records of jobs that are never sent are cancelled."""
        for message in messages:
            job, why = jobs[message.id], outcomes.get(message.id, error)
            if isinstance(why, Job):
                job.unsent = None
            elif message.id not in outcomes and is_kept:
                job.unsent = f"it is sent later: {why}"
            else:
                job.unsent = f"it was never sent: {why}"
                self._tracking.never_sent(message, why)

    def cancel(self, task: Task, session: Session) -> bool:
        """End the job without its effect; its record says so at once if possible.

        False, and nothing changed, if it had ended before.  Raises PermissionError.
        """
        self._require_owner(task, session, "cancel it")
        known = self._known(task, session)
        if known and known.status == STARTED and not task.allow_user_cancellation:
            self._require_administrator(task, session, "cancel it while it runs")
        if known:
            return self._jobs.of(known).cancel()
        if task.status in ENDED:
            return False
        self._ledger.bury([message_of(session.site, task.header, task.arguments)])
        try:
            lost = {task.task_id: task.message_id}
            self._tracking.close(session.site, lost, CANCELLED, f"cancelled; {LOST}")
        except RecordNotWritten as error:  # its own transaction is in the way, and will see the end
            logger.info("Background Task %s: %s", task.task_id, error)
        return True

    def _known(self, task: Task, session: Session) -> Record | None:
        """What the ledger knows of its job; None for another site's job, in a copied database."""
        known = self._ledger.read(task.message_id)
        return known if known and known.message.site == session.site else None

    def run_again(self, task: Task, session: Session) -> Job:
        """Have a job that failed or was cancelled run again, as the same Background Task.

        It is sent when the session's transaction commits, and goes on behind the steps and rows
        that it has done.  Raises PermissionError; JobError if it waits, runs, or is completed;
        UnknownQueue, MethodNotFound, MethodNotAllowed if it could not be enqueued any more.
        """
        self._require_owner(task, session, "run it again")
        if not task.allow_user_retry:
            self._require_administrator(task, session, "run it again")
        old = message_of(session.site, task.header, task.arguments)
        self._settings.queue(old.queue)
        self._host.methods.resolve(old.method, session.site)
        message = old.again(at=time.time(), goes_on=True)
        known = self._known(task, session)
        ended = TaskChange(task.task_id, queued(message), old.id, statuses=(FAILED, CANCELLED))
        is_due = known is not None and known.status in OPEN
        if is_due or not self._host.tasks.change(session, ended):
            status = facts(known)["status"] if known else task.status
            raise JobError(
                f"Background Task {task.task_id} is {status}; only one that failed or was "
                "cancelled is run again."
            )
        if known:
            session.after_commit(partial(self._forget, known.message))
        return self._send_at_commit([Sending(message)], session)[message.id]

    def _forget(self, ended: Message) -> None:
        try:
            self._ledger.forget(ended)
        except FrappeJobsError as error:  # it expires by itself
            logger.info("the old record of %s is kept for longer: %s", ended.name, error)

    def _require_owner(self, task: Task, session: Session, what: str) -> None:
        if session.user not in (task.user, ADMINISTRATOR):
            raise PermissionError(
                f"Background Task {task.task_id} is {task.user}'s: {session.user} may not {what}. "
                f"Its owner may, and {ADMINISTRATOR}."
            )

    def _require_administrator(self, task: Task, session: Session, what: str) -> None:
        if session.user != ADMINISTRATOR:
            raise PermissionError(
                f"Background Task {task.task_id} was enqueued so that {session.user} may not "
                f"{what}; {ADMINISTRATOR} may."
            )

    def recent(self, session: Session, limit: int) -> list[dict[str, Any]]:
        """The user's newest records (Administrator's: everybody's), as their jobs are now."""
        user = None if session.user == ADMINISTRATOR else session.user
        rows = self._host.tasks.recent(user, limit)
        waiting = [row["message_id"] for row in rows if row["status"] not in ENDED]
        live = self.live(session.site, waiting)
        return [
            {
                name: live.get(row["message_id"], {}).get(name, value)
                for name, value in row.items()
                if name != "message_id"
            }
            for row in rows
        ]

    def live(self, site: str, message_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """As Tracking.live; nothing while the ledger is out of reach."""
        try:
            return self._tracking.live(site, message_ids)
        except FrappeJobsError as error:
            logger.warning("Background Tasks are shown as their records say: %s", error)
            return {}

    def settle(self, site: str) -> None:
        """What ``frappe_jobs.settle_background_tasks`` does: as Tracking.settle.

        Raises RetryBackgroundJobError if a record could not be written yet.
        """
        try:
            self._tracking.settle(site)
        except RecordNotWritten as error:
            raise RetryBackgroundJobError(str(error)) from error
