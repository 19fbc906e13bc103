"""Jobs whose messages are lost are sent again.

A record is written before its message is sent, so whoever dies in between leaves a job that waits
for ever; and a message can vanish from a broker by accident.  One too many does no harm: it finds
its job begun, or ended.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Event

from frappe_jobs.brokers.base import Broker
from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import Record

logger = logging.getLogger(__name__)

#: A message that was looked for is not looked for again within so many leases.
RELIEF = 10

#: Seconds for which a message may be on its way from a queue to what its worker holds.
ON_ITS_WAY = 2.0


def sweep(settings: Settings, ledger: Ledger, broker: Broker, now: float) -> list[Record]:
    """Send the lost messages again; gives the jobs that were waiting for them.

    A job is looked for when it has waited, or has been without a lease, for as long as a lease is.
    Raises BrokerUnavailable.
    """
    since = now - lost_after(settings, broker)
    looked_for = now - RELIEF * settings.lease if broker.is_searchable else since
    suspects = ledger.suspects(settings.queues, waiting_since=since, looked_for=looked_for)
    unsent = ledger.unsent(now - settings.lease)
    found = [*unsent, *gone(ledger, broker, suspects)]
    lost = [*{one.message.id: one for one in found}.values()]
    is_or_may_be = "is" if broker.is_searchable else "may be"
    for record in lost:
        logger.warning(
            "%s is sent again: its message %s lost", record.message.name, is_or_may_be,
            extra={"action": "job_sent_again", "job": record.message.job_id},
        )  # fmt: skip
    send_again(ledger, broker, lost)
    ledger.looked_for([one.message for one in [*suspects, *lost]], now)
    return lost


def lost_after(settings: Settings, broker: Broker) -> int:
    """Seconds that a job waits before its message may count as lost.

    Where the broker cannot be searched (RabbitMQ) they are ``frappe_jobs_claim_ttl``.
    """
    return settings.lease if broker.is_searchable else settings.claim_ttl


def gone(ledger: Ledger, broker: Broker, suspects: Sequence[Record]) -> list[Record]:
    """Those of the jobs whose messages the broker has no longer; all, where it cannot be searched.

    A message that a worker has just taken is in no list for a moment, and one that was run is in
    none at all.  So they are looked for twice, and what moved meanwhile was not lost.
    """
    if not broker.is_searchable:
        return _unmoved(ledger, suspects)
    missing = _missing(ledger, broker, suspects)
    if missing:
        Event().wait(ON_ITS_WAY)
        missing = _missing(ledger, broker, missing)
    return missing


def _missing(ledger: Ledger, broker: Broker, suspects: Sequence[Record]) -> list[Record]:
    ids = {message.id for message in broker.lost([one.message for one in suspects])}
    return _unmoved(ledger, [one for one in suspects if one.message.id in ids])


def _unmoved(ledger: Ledger, records: Sequence[Record]) -> list[Record]:
    """Those of the jobs that nobody has begun, ended or put back since they were read."""
    now = {one.message.id: one for one in ledger.read_all([one.message.id for one in records])}
    return [one for one in records if now.get(one.message.id) == one]


def send_again(ledger: Ledger, broker: Broker, lost: Sequence[Record]) -> None:
    """Send the jobs' messages once more; one too many does no harm."""
    broker.send_again([one.message for one in lost])
    ledger.sent([one.message for one in lost])
