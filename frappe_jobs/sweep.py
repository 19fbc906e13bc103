"""Send jobs again whose messages are lost.

A record is written before its message is sent, so a process that dies in between leaves a job that
waits for ever; and a broker may lose a message.  A second message of a job does no harm: the worker
that gets it finds the job begun or ended.
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

#: A message that was looked for is not looked for again within this many leases.
RELIEF = 10

#: Seconds that a message may take from its queue to the list of those that a worker holds.
ON_ITS_WAY = 2.0


def sweep(settings: Settings, ledger: Ledger, broker: Broker, now: float) -> list[Record]:
    """Send the lost messages again; gives the jobs that were waiting for them.

    A job is looked for when it has waited, or has had no lease, for the length of a lease.
    Raises BrokerUnavailable.
    """
    since = now - lost_after(settings, broker)
    looked_for = now - RELIEF * settings.lease if broker.is_searchable else since
    suspects = ledger.suspects(settings.queues, waiting_since=since, looked_for=looked_for)
    unsent = ledger.unsent(now - settings.lease)
    found = [*unsent, *gone(ledger, broker, suspects)]
    lost = [*{record.message.id: record for record in found}.values()]
    is_or_may_be = "is" if broker.is_searchable else "may be"
    for record in lost:
        logger.warning(
            "%s is sent again: its message %s lost", record.message.name, is_or_may_be,
            extra={"action": "job_sent_again", "job": record.message.job_id},
        )  # fmt: skip
    send_again(ledger, broker, lost)
    ledger.looked_for([record.message for record in [*suspects, *lost]], now)
    return lost


def lost_after(settings: Settings, broker: Broker) -> int:
    """Seconds that a job waits before its message may count as lost.

    If the broker cannot be searched (RabbitMQ), it is ``frappe_jobs_claim_ttl``.
    """
    return settings.lease if broker.is_searchable else settings.claim_ttl


def gone(ledger: Ledger, broker: Broker, suspects: Sequence[Record]) -> list[Record]:
    """The jobs whose messages the broker no longer has; all if it cannot be searched.

    A message that a worker of kombu's own transport is just taking is in no list for a moment, and
    a message that was run is in none at all.  So we look twice, and a job that changed meanwhile
    was not lost.
    """
    if not broker.is_searchable:
        return _unmoved(ledger, suspects)
    missing = _missing(ledger, broker, suspects)
    if missing:
        Event().wait(ON_ITS_WAY)
        missing = _missing(ledger, broker, missing)
    return missing


def _missing(ledger: Ledger, broker: Broker, suspects: Sequence[Record]) -> list[Record]:
    ids = {message.id for message in broker.lost([record.message for record in suspects])}
    return _unmoved(ledger, [record for record in suspects if record.message.id in ids])


def _unmoved(ledger: Ledger, records: Sequence[Record]) -> list[Record]:
    """The jobs that were not begun, ended or put back since they were read."""
    read = ledger.read_all([record.message.id for record in records])
    now = {record.message.id: record for record in read}
    return [record for record in records if now.get(record.message.id) == record]


def send_again(ledger: Ledger, broker: Broker, lost: Sequence[Record]) -> None:
    """Send the jobs' messages once more."""
    messages = [record.message for record in lost]
    ledger.sending(messages)
    broker.send_again(messages)
    ledger.sent(messages)
