"""Jobs whose messages are lost are sent again.

A record is written before its message is sent, so whoever dies in between leaves a job that waits
for ever; and a message can vanish from a broker by accident.  One too many does no harm: it finds
its job begun, or ended.
"""

from __future__ import annotations

import logging

from frappe_jobs.brokers.base import Broker
from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import Record

logger = logging.getLogger(__name__)

#: A message that was looked for is not looked for again within so many leases.
RELIEF = 10


def sweep(settings: Settings, ledger: Ledger, broker: Broker, now: float) -> list[Record]:
    """Send the lost messages again; gives the jobs that were waiting for them.

    Those that were never sent, on any broker; on Redis also those that the broker no longer has;
    on RabbitMQ, which cannot be searched, what has waited for ``frappe_jobs_claim_ttl``.
    A job is looked for when it has waited, or has been without a lease, for as long as a lease is.
    Raises BrokerUnavailable.
    """
    since = now - (settings.claim_ttl if settings.is_amqp else settings.lease)
    looked_for = since if settings.is_amqp else now - RELIEF * settings.lease
    suspects = ledger.suspects(settings.queues, waiting_since=since, looked_for=looked_for)
    gone = suspects
    if not settings.is_amqp:
        ids = {message.id for message in broker.lost([one.message for one in suspects])}
        gone = [one for one in suspects if one.message.id in ids]
    found = {one.message.id: one for one in [*ledger.unsent(now - settings.lease), *gone]}
    lost = [*found.values()]
    for record in lost:
        logger.warning(
            "%s is sent again: its message was lost", record.message.name,
            extra={"action": "job_sent_again", "job": record.message.job_id},
        )  # fmt: skip
    broker.send_again([one.message for one in lost])
    ledger.sent([one.message for one in lost])
    ledger.looked_for([one.message for one in [*suspects, *lost]], now)
    return lost
