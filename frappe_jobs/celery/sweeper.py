"""A worker of the bench, one at a time, looks for jobs whose messages are lost or never sent."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.runtime import Runtime, load
from frappe_jobs.sweep import sweep

logger = logging.getLogger(__name__)

#: Seconds between two looks at what was committed, and may have never been sent.
RELAY = 2
#: Seconds between two looks at the bench, where somebody watches it.
WATCH = 20
#: Seconds between two looks at whether the search indexes are whole, and of work if they are not.
FILL, FILL_FOR = 60, 5.0


class Sweeper(ConsumerStep):
    """Sweeps from a thread of its own: a long queue takes its time."""

    _thread: threading.Thread | None = None

    #: Held while it sends something; whoever keeps it ends the sweeping.
    turn = threading.Lock()

    def start(self, consumer: Any) -> None:
        if Sweeper._thread is None:
            Sweeper._thread = threading.Thread(
                target=_sweep_for_ever, args=(consumer,), daemon=True, name="sweep"
            )
            Sweeper._thread.start()
            runtime = runtime_of(consumer.app)
            if runtime.settings.alerts:
                load("alerts")(runtime)


def _sweep_for_ever(consumer: Any) -> None:
    runtime = runtime_of(consumer.app)
    ledger = runtime.make_ledger()
    interval = max(1, runtime.settings.lease // 2)  # of the bench, whichever worker does it
    pause, swept, watched = threading.Event(), time.monotonic(), 0.0
    while not pause.wait(min(RELAY, interval)):
        try:
            with Sweeper.turn:
                if ledger.take_turn("relay", RELAY):
                    runtime.relay.have_sites_looked_at(time.time())
                if runtime.settings.keeps_history and time.monotonic() - watched > WATCH:
                    watched = time.monotonic()
                    load("watching")(runtime, consumer, ledger)
                if runtime.settings.keeps_search_index and ledger.take_turn("search", FILL):
                    runtime.backfill.fill_all(FILL_FOR)
                if time.monotonic() - swept < interval:
                    continue
                swept = time.monotonic()
                if ledger.take_turn("sweep", interval):
                    sweep(runtime.in_force, ledger, runtime.broker, time.time())
                    runtime.task_upkeep.settle_what_is_left()
                    if queue := _served(consumer, runtime):
                        runtime.relay.have_sites_cleared(time.time(), queue)
        except BrokerUnavailable as error:
            logger.debug("no sweep: %s", error)
        except Exception:  # whatever went wrong must not end the sweeping
            logger.exception("the sweep failed")


def _served(consumer: Any, runtime: Runtime) -> str | None:
    """One of the bench's queues that this worker serves; None while it serves none."""
    names = {queue.name for queue in getattr(consumer.task_consumer, "queues", ())}
    ours = runtime.settings.queues
    return next((queue for queue in ours if runtime.broker.queue_name(queue) in names), None)
