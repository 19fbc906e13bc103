"""What the clock makes due becomes jobs, by the same door as everyone else's."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import uuid4

from frappe_jobs.brokers.base import Sending
from frappe_jobs.config import Settings
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import FrappeJobsError, QueueOverloaded
from frappe_jobs.hosts.base import ADMINISTRATOR, Host
from frappe_jobs.ledger.timetable import Due
from frappe_jobs.message import Message

logger = logging.getLogger(__name__)

#: Frappe's settings that keep the scheduler from a site, and what each is called.
INACTIVE = {
    "pause_scheduler": "paused",
    "disable_scheduler": "disabled",
    "maintenance_mode": "in maintenance mode",
}


class Scheduling:
    """Queues the scheduled jobs of the sites that are active."""

    def __init__(self, settings: Settings, host: Host, dispatcher: Dispatcher) -> None:
        self._settings, self._host, self._dispatcher = settings, host, dispatcher

    def inactive(self, site: str) -> str | None:
        """Why nothing is queued for that site: its configuration says so; None if it is active."""
        try:
            conf = self._settings.site_config(site)
        except FrappeJobsError as error:  # gone, or its file is half written
            return str(error)
        if word := next((word for key, word in INACTIVE.items() if conf.get(key)), None):
            return word
        return self._host.inactive(site)

    def inactive_of(self, sites: Iterable[str]) -> set[str]:
        """Those of the sites for which nothing is queued now."""
        return {site for site in sites if self.inactive(site)}

    def queue(self, due: Sequence[Due], now: float) -> list[Due]:
        """Queue each due time once, whoever asks; gives those that are dealt with.

        A job that still waits or runs is not queued again.  Raises BrokerUnavailable; all may be
        asked for once more then.
        """
        by_queue: dict[str, list[Due]] = defaultdict(list)
        for one in due:
            by_queue[one.entry.queue].append(one)
        done: list[Due] = []
        for some in by_queue.values():
            try:
                self._dispatcher.dispatch([self._sending(one, now) for one in some])
            except QueueOverloaded as error:
                logger.error("%s scheduled jobs wait: %s", len(some), error)
                continue
            done += some
        return done

    def _sending(self, due: Due, now: float) -> Sending:
        entry = due.entry
        queue = self._settings.queues.get(entry.queue) or self._settings.queues["default"]
        call = self._host.scheduled_call(entry.name, entry.method)
        message = Message(
            id=str(uuid4()), job_id=f"scheduled_job::{call.key}", site=entry.site,
            user=ADMINISTRATOR, method=call.method, arguments=call.arguments,
            queue=queue.name, name=entry.method, timeout=queue.timeout, enqueued_at=now,
            on_failure=call.on_failure,
        )  # fmt: skip
        return Sending(message, claim=True, due=f"{entry.id}:{due.at!r}")
