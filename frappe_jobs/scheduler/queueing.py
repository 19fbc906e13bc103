"""Enqueue scheduled jobs that are due, the same way as all other jobs."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from frappe_jobs.config import Queue, Settings
from frappe_jobs.cron import UTC
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import (
    BrokerError,
    BrokerUnavailable,
    FrappeJobsError,
    UnknownQueue,
    shortened,
)
from frappe_jobs.host.port import ADMINISTRATOR, Host
from frappe_jobs.ledger import Ledger
from frappe_jobs.message import Message, Sending, new_id
from frappe_jobs.scheduler.comparison import PAUSED
from frappe_jobs.scheduler.entry import Due, Entry, Stored

logger = logging.getLogger(__name__)

#: Seconds for which a due time that was skipped is remembered after it.
DAY = 24 * 3600

#: Frappe's settings that stop a site's schedule, and what the site is then called.
INACTIVE = {
    "pause_scheduler": "paused",
    "disable_scheduler": "disabled",
    "maintenance_mode": "in maintenance mode",
}


class Scheduling:
    """Queues the scheduled jobs of the active sites."""

    def __init__(self, settings: Settings, host: Host, dispatcher: Dispatcher) -> None:
        self._settings, self._host, self._dispatcher = settings, host, dispatcher

    def inactive(self, site: str) -> str | None:
        """Why that site's scheduled jobs are not queued; None if it is active."""
        try:
            conf = self._settings.sites.config(site)
        except FrappeJobsError as error:  # it is gone, or its file is half written
            return str(error)
        if word := next((word for key, word in INACTIVE.items() if conf.get(key)), None):
            return word
        return self._host.schedule.inactive(site)

    def asleep(self, due: Iterable[Due]) -> set[str]:
        """The sites of these jobs for which nothing is queued now."""
        return {site for site in {job.entry.site for job in due} if self._is_asleep(site)}

    def _is_asleep(self, site: str) -> bool:
        try:
            return self.inactive(site) is not None
        except Exception as error:  # a site's trouble must not stop the others
            logger.exception("nothing is queued for %s for now: %s", site, error)
            return True

    def queue_due(self, due: Sequence[Due], now: float) -> list[tuple[Due, float, float]]:
        """Queue what is due; gives the moves for ``Timetable.move``.

        A kill in between does no harm: each due time is queued once.  Raises BrokerUnavailable.
        """
        moves, todo = [], []
        for job in due:
            if job.at > now:  # something set its time in Redis too early
                moves.append((job, job.at, job.at))
            elif job.queued is not None and job.at <= job.queued <= now:  # it has been queued
                after = job.entry.next_run(datetime.fromtimestamp(job.queued, UTC)).timestamp()
                moves.append((job, after, after))
            else:
                todo.append(job)
        asleep = self.asleep(todo)
        done, waiting = self.queue([job for job in todo if job.entry.site not in asleep], now)
        waiting += [job for job in todo if job.entry.site in asleep]
        moves += [(job, job.next_at, job.next_at) for job in done]
        moves += [(job, job.at, now + PAUSED) for job in waiting]
        return moves

    def queue(self, due: Iterable[Due], now: float) -> tuple[list[Due], list[Due]]:
        """Queue each due time once, however often asked; gives (done, those that must wait).

        A job that still waits or runs is not queued again; a job whose queue is full must wait.
        Raises BrokerUnavailable; then all may be asked for again.
        """
        by_queue: dict[str, list[Due]] = defaultdict(list)
        for job in due:
            by_queue[job.entry.queue].append(job)
        done: list[Due] = []
        full: list[Due] = []
        for jobs in by_queue.values():
            waiting = self._queue_together(jobs, now)
            full += waiting
            done += [job for job in jobs if job not in waiting] if waiting else jobs
        return done, full

    def _queue_together(self, jobs: Sequence[Due], now: float) -> Sequence[Due]:
        """Queue jobs of a single queue; gives those that must wait.  Raises BrokerUnavailable."""
        try:
            self._dispatcher.dispatch([self._sending(job, now) for job in jobs])
        except BrokerUnavailable:
            raise
        except BrokerError as error:  # the queue is full, or was declared with other arguments
            logger.error("%s scheduled jobs wait: %s", len(jobs), error)
            return jobs
        except Exception as error:
            if len(jobs) > 1:  # a single job's fault must not stop the others
                return [left for job in jobs for left in self._queue_together([job], now)]
            entry = jobs[0].entry
            logger.exception(
                "%s on %s is not queued, and tried again later: %s",
                shortened(entry.method), entry.site, error,
            )  # fmt: skip
            return jobs
        return []

    def _sending(self, due: Due, now: float) -> Sending:
        entry = due.entry
        queue = self._queue_of(entry)
        call = self._host.schedule.scheduled_call(entry.name, entry.method, due.at)
        message = Message(
            id=new_id(), job_id=self._host.job_id(call.job_id),
            site=entry.site, user=ADMINISTRATOR, method=call.method, arguments=call.arguments,
            queue=queue.name, name=entry.method, timeout=queue.timeout, enqueued_at=now,
            on_failure=call.on_failure,
        )  # fmt: skip
        return Sending(message, claim=True, due=name_of(due))

    def _queue_of(self, entry: Entry) -> Queue:
        """The entry's queue; the default queue if that is no longer configured."""
        try:
            return self._settings.queue(entry.queue)
        except UnknownQueue as error:
            logger.error("%s on %s goes to 'default': %s", entry.method, entry.site, error)
            return self._settings.queue(None)


def name_of(due: Due) -> str:
    """The name under which Redis knows for a day that this due time has been queued."""
    # After a clock was set back the same time may come again.
    again = f":{due.epoch}" if due.epoch else ""
    return f"{due.entry.id}:{due.at!r}{again}"


def next_due(stored: Stored | None) -> Due | None:
    """The due time that comes next; None if none is known."""
    if stored is None or stored.entry is None or stored.due is None:
        return None
    return Due(stored.entry, stored.due, epoch=stored.epoch)


def skip(ledger: Ledger, due: Due) -> bool:
    """Leave out that due time; False if it has been queued, or is left out already."""
    return ledger.skip_due(name_of(due), max(0, int(due.at - time.time())) + DAY)
