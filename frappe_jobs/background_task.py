"""Tracked jobs for those who wait for them: sent with a record, cancelled, run again, listed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from frappe_jobs.brokers.base import Sending
from frappe_jobs.config import Settings
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import FrappeJobsError, JobError, PermissionError
from frappe_jobs.hosts.base import (
    ADMINISTRATOR,
    SETTLE_BACKGROUND_TASKS,
    Host,
    Session,
    TaskChange,
)
from frappe_jobs.job import Job
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.ends import UnwrittenEnds
from frappe_jobs.ledger.record import OPEN
from frappe_jobs.message import Message
from frappe_jobs.tracking import (
    CANCELLED,
    FAILED,
)
from frappe_jobs.tracking import OPEN as OPEN_TASKS
from frappe_jobs.tracking import PATIENCE, Tracking, message_of, queued, record_of

logger = logging.getLogger(__name__)

#: Why a handle knows nothing of its job yet.
AT_COMMIT = (
    "it is sent when the transaction commits in which it was enqueued, and never if that rolls back"
)
TAKEN = "a job of its id waits or runs"
LOST = (
    "nothing is known of its job any more: it was never sent, or Redis has lost it; it may have run"
)
#: Days after which a job that nobody knows of is given up.
GIVEN_UP = timedelta(days=1)


class Task(Protocol):
    """A Background Task, as the host's people have it in their hands."""

    task_id: str
    message_id: str
    user: str
    status: str
    header: str
    arguments: str


class BackgroundTasks:
    """What is done with tracked jobs from outside."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        ledger: Ledger,
        dispatcher: Dispatcher,
        tracking: Tracking,
    ) -> None:
        self._settings, self._host, self._ledger = settings, host, ledger
        self._dispatcher, self._tracking = dispatcher, tracking

    def enqueue(self, sendings: Sequence[Sending], session: Session) -> list[Job | None]:
        """Write their records in the session's transaction, and send them when it commits.

        None for each whose job's id is taken already where it claims it.  Raises QueueOverloaded,
        ArgumentError, DatabaseUnavailable, and nothing is written.
        """
        self._dispatcher.refuse_overload(sendings)
        free = [
            one for one in sendings if not (one.claim and self._ledger.is_taken(one.message))
        ]  # fmt: skip
        self._host.add_background_tasks(session, [record_of(one.message) for one in free])
        jobs = self._send_at_commit(free, session)
        return [jobs.get(one.message.id) for one in sendings]

    def _send_at_commit(self, sendings: Sequence[Sending], session: Session) -> dict[str, Job]:
        jobs = {
            one.message.id: self._dispatcher.job(one.message, unsent=AT_COMMIT) for one in sendings
        }
        if sendings:
            session.after_commit(partial(self._send, sendings, jobs))
        return jobs

    def _send(self, sendings: Sequence[Sending], jobs: dict[str, Job]) -> None:
        """The records are committed; those of jobs that cannot be sent end as cancelled."""
        waiting = {one.message.id: one.message for one in sendings}

        def strike_out(message_ids: Iterable[str], why: str | None) -> None:
            for message_id in message_ids:
                jobs[message_id].unsent = why and f"it was never sent: {why}"
                if why:
                    self._tracking.never_sent(waiting.pop(message_id), why)
                else:
                    del waiting[message_id]

        try:
            strike_out(self._ledger.dropped(waiting), "it was cancelled before")
            sent = self._dispatcher.dispatch([s for s in sendings if s.message.id in waiting])
        except FrappeJobsError as error:
            strike_out([job.message_id for job in error.details.get("sent", ())], None)
            strike_out([*waiting], str(error))
            raise
        strike_out([job.message_id for job in sent if job], None)
        strike_out([*waiting], TAKEN)

    def cancel(self, task: Task, session: Session) -> bool:
        """End the job without its effect; its record says so at once where that is possible.

        False, and nothing changed, if it had ended before.  Raises PermissionError.
        """
        self._require_owner(task, session, "cancel it")
        message = message_of(session.site, task.header, task.arguments)
        known = self._ledger.read(message.id)
        if known is not None:
            return self._dispatcher.job(message).cancel()
        if task.status not in OPEN_TASKS:
            return False
        self._ledger.drop(message)
        self._tracking.ended(message, CANCELLED, exception=f"cancelled; {LOST}")
        return True

    def run_again(self, task: Task, session: Session) -> Job:
        """Have a job that failed or was cancelled run again, as the same Background Task.

        It is sent when the session's transaction commits.  Raises PermissionError; JobError for
        one that waits, runs, or is completed.
        """
        self._require_owner(task, session, "run it again")
        old = message_of(session.site, task.header, task.arguments)
        known = self._ledger.read(old.id)
        message = old.again(at=time.time())
        change = TaskChange(task.task_id, queued(message), old.id, statuses=(FAILED, CANCELLED))
        if (known and known.status in OPEN) or not self._host.change_background_task(
            session, change
        ):
            raise JobError(
                f"Background Task {task.task_id} is {known.status if known else task.status}; only "
                "one that failed or was cancelled is run again."
            )
        session.after_commit(partial(self._ledger.forget, old))
        return self._send_at_commit([Sending(message)], session)[message.id]

    def _require_owner(self, task: Task, session: Session, what: str) -> None:
        if session.user not in (task.user, ADMINISTRATOR):
            raise PermissionError(
                f"Background Task {task.task_id} is {task.user}'s: {session.user} may not {what}. "
                f"Its owner may, and {ADMINISTRATOR}."
            )

    def recent(self, session: Session, limit: int) -> list[dict[str, Any]]:
        """The user's newest records, of all users for Administrator, as their jobs are now."""
        user = None if session.user == ADMINISTRATOR else session.user
        rows = self._host.recent_background_tasks(user, limit)
        live = self.live(row["message_id"] for row in rows if row["status"] in OPEN_TASKS)
        return [
            {
                name: live.get(row["message_id"], {}).get(name, value)
                for name, value in row.items()
                if name != "message_id"
            }
            for row in rows
        ]

    def live(self, message_ids: Any) -> dict[str, dict[str, Any]]:
        """What the ledger knows of them; nothing while it cannot be reached."""
        try:
            return self._tracking.live(message_ids)
        except FrappeJobsError as error:
            logger.warning("Background Tasks are shown as their records say: %s", error)
            return {}

    # --- what the workers' sweep and the scheduler see to

    def settle(self, site: str) -> None:
        """Write the ends that the site's records do not say yet, as Tracking does."""
        self._tracking.settle(site)

    def settle_soon(self, site: str, queue: str) -> None:
        """Have a worker of that queue write the ends that the site's records do not say yet."""
        known = self._settings.queues.get(queue) or self._settings.queues["default"]
        message = Message(
            id=str(uuid4()), job_id=f"{SETTLE_BACKGROUND_TASKS}::{known.name}", site=site,
            user=ADMINISTRATOR,
            method=SETTLE_BACKGROUND_TASKS, queue=known.name, name=SETTLE_BACKGROUND_TASKS,
            timeout=known.timeout, enqueued_at=time.time(),
        )  # fmt: skip
        try:
            self._dispatcher.dispatch([Sending(message, claim=True)])
        except FrappeJobsError as error:
            logger.warning("records of tracked jobs of %s are written later: %s", site, error)

    def settle_what_is_left(self) -> None:
        """The same for every site with such ends.  Raises BrokerUnavailable."""
        ends = UnwrittenEnds(self._ledger)
        for site in ends.sites(self._host.sites()):
            for queue in {end.queue for end in ends.of(site).values()}:
                self.settle_soon(site, queue)

    def clear(self, site: str) -> int:
        """Delete the site's old records; gives how many they were.

        Those whose jobs nobody knows of any more are ended before.  Raises DatabaseUnavailable,
        BrokerUnavailable.
        """
        now = datetime.now(timezone.utc)
        self._give_up(site, now - GIVEN_UP)
        days = timedelta(days=self._settings.background_task_days)
        return self._host.clear_background_tasks(site, now - days)

    def _give_up(self, site: str, before: datetime) -> None:
        waiting = self._host.open_background_tasks(site, before)
        known = self._tracking.live(waiting.values())
        values = {"status": FAILED, "exception": LOST, "ended_at": datetime.now(timezone.utc)}
        lost = [
            TaskChange(task_id, values, message_id, OPEN_TASKS)
            for task_id, message_id in waiting.items()
            if message_id not in known
        ]
        if lost:
            self._host.change_background_tasks(site, lost, patience=PATIENCE)
