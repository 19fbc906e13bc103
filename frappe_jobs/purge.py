"""Take back jobs that wait: their records end, their messages leave the broker."""

from __future__ import annotations

from collections.abc import Sequence

from frappe_jobs.brokers.base import Broker
from frappe_jobs.ledger import Ledger
from frappe_jobs.message import Message
from frappe_jobs.tracking import Tracking

#: Jobs whose records end in one round trip.
CHUNK = 500


def cancel_waiting(
    messages: Sequence[Message],
    reason: str,
    *,
    ledger: Ledger,
    broker: Broker,
    tracking: Tracking,
) -> list[Message]:
    """Cancel those of the jobs that still wait, and free their ids; gives them.

    Where the broker does not let go of a message, the worker that gets it drops it.
    """
    ended: list[Message] = []
    for start in range(0, len(messages), CHUNK):
        chunk = messages[start : start + CHUNK]
        did = ledger.cancel(chunk, reason, waiting_only=True)
        ended += [message for message, done in zip(chunk, did, strict=True) if done]
    if ended:
        ledger.forget_dropped(broker.discard(ended))
        tracking.settle_if_possible(ended)
    return ended
