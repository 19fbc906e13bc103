"""What the workers' sweep and the scheduler do for the records of tracked jobs."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone

from frappe_jobs.background_task.ends import UnwrittenEnds
from frappe_jobs.background_task.record import FAILED, LOST
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.config import Settings
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.host.own_methods import SETTLE_BACKGROUND_TASKS
from frappe_jobs.host.port import ADMINISTRATOR, Host
from frappe_jobs.message import Message, Sending, new_id

logger = logging.getLogger(__name__)

#: After this time a job that nobody knows of is given up.
GIVEN_UP = timedelta(days=1)


class TaskUpkeep:
    """Has ends written that nobody could write, and clears what is old."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        ends: UnwrittenEnds,
        dispatcher: Dispatcher,
        tracking: Tracking,
    ) -> None:
        self._settings, self._host, self._ends = settings, host, ends
        self._dispatcher, self._tracking = dispatcher, tracking

    def settle_soon(self, site: str, queue: str) -> None:
        """Have a worker of that queue write the ends that the site's records do not say yet."""
        known = self._settings.queues.get(queue) or self._settings.queues["default"]
        message = Message(
            id=new_id(), job_id=f"{SETTLE_BACKGROUND_TASKS}::{known.name}", site=site,
            user=ADMINISTRATOR, method=SETTLE_BACKGROUND_TASKS, name=SETTLE_BACKGROUND_TASKS,
            queue=known.name, timeout=known.timeout, enqueued_at=time.time(),
        )  # fmt: skip
        try:
            self._dispatcher.dispatch([Sending(message, claim=True)])
        except FrappeJobsError as error:
            logger.warning("records of tracked jobs of %s are written later: %s", site, error)

    def settle_what_is_left(self) -> None:
        """As ``settle_soon`` for every site with such ends; raises BrokerUnavailable."""
        for site in self._ends.sites(self._host.sites()):
            for queue in {end.queue for end in self._ends.of(site).values()}:
                self.settle_soon(site, queue)

    def clear(self, site: str, now: datetime | None = None) -> int:
        """Delete the site's old records; gives how many there were.

        Before that it ends the records whose jobs nobody knows of any more.  Raises
        DatabaseUnavailable, RecordNotWritten, BrokerUnavailable.
        """
        now = now or datetime.now(timezone.utc)
        waiting = self._host.tasks.open(site, now - GIVEN_UP)
        known = self._tracking.live(site, waiting.values())
        if lost := {task: message for task, message in waiting.items() if message not in known}:
            self._tracking.close(site, lost, FAILED, LOST)
        days = timedelta(days=self._settings.background_task_days)
        return self._host.tasks.clear(site, now - days)
