"""A worker of the bench, one at a time, looks for jobs whose messages are lost."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery import Celery, bootsteps

from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.sweep import sweep

logger = logging.getLogger(__name__)


class Sweeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """Sweeps from a thread of its own: a long queue takes its time."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    _thread: threading.Thread | None = None

    def start(self, consumer: Any) -> None:
        if Sweeper._thread is None:
            Sweeper._thread = threading.Thread(
                target=_sweep_for_ever, args=(consumer.app,), daemon=True, name="sweep"
            )
            Sweeper._thread.start()


def _sweep_for_ever(app: Celery) -> None:
    runtime = runtime_of(app)
    ledger = runtime.make_ledger()
    interval = max(1, runtime.settings.lease // 2)  # of the bench, whichever worker does it
    pause = threading.Event()
    while not pause.wait(interval):
        try:
            if ledger.take_turn("sweep", interval):
                sweep(runtime.in_force, ledger, runtime.broker, time.time())
                runtime.task_upkeep.settle_what_is_left()
        except BrokerUnavailable as error:
            logger.debug("no sweep: %s", error)
        except Exception:  # whatever went wrong must not end the sweeping
            logger.exception("the sweep failed")
