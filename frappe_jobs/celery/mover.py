"""A worker's thread that sends jobs whose time has come.

Each worker has one, so that nobody is needed for it, and none may be missed: a job leaves the place
where it waits in the step that pushes it (Redis), or that notes it as unsent (RabbitMQ), so only
one of them sends it, and what a killed one did not publish is sent by the sweep.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import compress
from typing import Any

from frappe_jobs.brokers.base import Broker
from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.celery.stopping import stopping
from frappe_jobs.errors import BrokerError, BrokerUnavailable
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.delayed import Due
from frappe_jobs.runtime import Runtime

logger = logging.getLogger(__name__)

#: Seconds between two looks; less when a job is due earlier.
PACE = 1.0
#: Between two looks at the least.
LEAST = 0.02
#: Seconds after which a job is tried again that the broker did not take.
AGAIN = 2.0


class Mover(ConsumerStep):
    """Moves them from a thread of its own: it must not wait for the sweep's work."""

    _thread: threading.Thread | None = None

    #: Held while it moves something; whoever keeps it ends that.
    turn = threading.Lock()

    def start(self, consumer: Any) -> None:
        if Mover._thread is None:
            Mover._thread = threading.Thread(
                target=_move_for_ever, args=(runtime_of(consumer.app),), daemon=True, name="mover"
            )
            Mover._thread.start()


def _move_for_ever(runtime: Runtime) -> None:
    ledger, broker = runtime.make_ledger(), runtime.broker
    pause, wait = threading.Event(), LEAST
    # One that is about to end would leave what it has not published.
    while not stopping.told:
        try:
            ledger.wait_for_room(wait)
            wait = PACE
            with Mover.turn:
                left = move_due(ledger, broker)
            if left is not None:
                wait = min(PACE, max(LEAST, left))
        except BrokerError as error:
            logger.debug("jobs that are due wait on: %s", error)
            pause.wait(PACE)
        except Exception:  # whatever went wrong must not end this thread
            logger.exception("jobs that are due could not be sent")
            pause.wait(PACE)


def move_due(ledger: Ledger, broker: Broker) -> float | None:
    """Send some of the jobs that are due; gives the seconds until it is worth a look again.

    None while nothing waits.  Raises BrokerError; the jobs go on waiting then.
    """
    look = ledger.due()
    due = [replace(one, push=broker.push(one.message)) for one in look.due]
    moved = [*compress(due, ledger.send_due(due))]
    _publish(ledger, broker, [one for one in moved if one.push is None])
    return look.next_in


def _publish(ledger: Ledger, broker: Broker, due: Sequence[Due]) -> None:
    messages = [one.message for one in due]
    if not messages:
        return
    try:
        broker.send_again(messages)
    except BrokerError:
        # A message that has arrived all the same finds its job waiting here, and is dropped.
        for message in messages:
            with suppress(BrokerUnavailable):  # else the sweep sends it
                ledger.put_back(message, AGAIN)
        raise
    ledger.sent(messages)
