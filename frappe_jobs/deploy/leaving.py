"""A bench that leaves: nothing of it stays on the servers."""

from __future__ import annotations

from frappe_jobs.brokers.base import Broker
from frappe_jobs.ledger.leftovers import Leftovers
from frappe_jobs.scheduler.timetable import Timetable
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.servers.url_options import REDIS_SCHEMES


def who_is_there(broker: Broker, timetable: Timetable) -> list[str]:
    """The workers online and the scheduler that leads, which would write again.

    Raises BrokerUnavailable.
    """
    leader = timetable.leader()
    return [*(worker.name for worker in broker.workers()), *([leader] if leader else [])]


def forget(settings: SettingsInForce, broker: Broker) -> None:
    """Remove the bench's queues, with the jobs that wait, its records, results and schedule.

    Raises BrokerUnavailable; a second call then removes the rest.
    """
    broker.forget()
    urls = [settings.redis_url, settings.schedule_url, settings.result_backend]
    for url in dict.fromkeys(urls):
        if url.partition(":")[0] in REDIS_SCHEMES:
            Leftovers(url, settings.prefix).delete()
