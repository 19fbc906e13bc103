"""What a worker does beside its jobs, each at its own pace: it looks for what is lost or unsent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.consumer import Consumer
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.celery.taking import mind_pauses
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.ledger import Ledger
from frappe_jobs.limits.declared import declared
from frappe_jobs.runtime import Runtime, load
from frappe_jobs.sweep import sweep

logger = logging.getLogger(__name__)

#: Seconds between two looks at what was committed, and may have never been sent.
RELAY = 2
#: Seconds between two looks at what was pushed while all workers were busy, and at what is paused.
INBOX = 1
#: Seconds between two looks at the sites' weights, and at what is limited.
WEIGH = 30
#: Seconds between two looks at the bench, where somebody watches it.
WATCH = 20
#: Seconds between two looks at whether the search indexes are whole, and of work if they are not.
FILL, FILL_FOR = 60, 5.0


#: What was said of wrong limits and of queues, each once.
_said: set[str] = set()


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


@dataclass
class Work:
    """What is done every so many seconds, by each worker, or with a ``turn`` by one at a time."""

    pace: float
    do: Callable[[], object]
    turn: str | None = None
    #: When it is done next, by the monotonic clock.
    due: float = 0.0


def _sweep_for_ever(consumer: Any) -> None:
    runtime = runtime_of(consumer.app)
    ledger = runtime.make_ledger()
    works = _works(consumer, runtime, ledger)
    pause, tick = threading.Event(), min(work.pace for work in works)
    while not pause.wait(tick):
        with Sweeper.turn:
            for work in works:
                if time.monotonic() >= work.due:
                    work.due = time.monotonic() + work.pace
                    _do(work, ledger)


def _works(consumer: Any, runtime: Runtime, ledger: Ledger) -> list[Work]:
    """All that this worker does beside its jobs."""
    settings, pace = runtime.settings, max(1, runtime.settings.lease // 2)
    works = [
        Work(INBOX, lambda: _mind_the_queues(consumer, runtime)),
        Work(WEIGH, lambda: ledger.set_weights(runtime.settings.sites.weights()), "weights"),
        Work(WEIGH, lambda: _mind_limits(runtime, ledger), "limits"),
        Work(RELAY, lambda: runtime.relay.have_sites_looked_at(time.time()), "relay"),
        Work(
            pace, lambda: _sweep(consumer, runtime, ledger), "sweep", due=time.monotonic() + pace
        ),
    ]  # fmt: skip
    if settings.keeps_history:
        works.append(Work(WATCH, lambda: load("watching")(runtime, consumer, ledger)))
    if settings.keeps_search_index:
        works.append(Work(FILL, lambda: runtime.backfill.fill_all(FILL_FOR), "search"))
    return works


def _do(work: Work, ledger: Ledger) -> None:
    """Do it, if it is this worker's turn; what goes wrong is done when it is due again."""
    try:
        if work.turn is None or ledger.take_turn(work.turn, round(work.pace)):
            work.do()
    except BrokerUnavailable as error:
        logger.debug("no sweep: %s", error)
    except Exception:  # whatever went wrong must not end the sweeping
        logger.exception("the sweep failed")


def _sweep(consumer: Any, runtime: Runtime, ledger: Ledger) -> None:
    sweep(runtime.in_force, ledger, runtime.broker, time.time())
    runtime.task_upkeep.settle_what_is_left()
    if queue := _served(consumer, runtime):
        runtime.relay.have_sites_cleared(time.time(), queue)


def _mind_limits(runtime: Runtime, ledger: Ledger) -> None:
    found = declared(runtime.settings)
    ledger.set_limits(found.rules)
    for text in found.wrong:
        _say_once(text, "limit_refused")


def _mind_the_queues(consumer: Any, runtime: Runtime) -> None:
    served = _all_served(consumer, runtime)
    if isinstance(consumer, Consumer):
        runtime.broker.file(served)
        mind_pauses(consumer)
    elif runtime.in_force.takes_turns and (unknown := {*served} - runtime.in_force.guests):
        _say_once(
            f"this worker of Celery's serves {', '.join(sorted(unknown))}, where it does not find "
            "what workers of ours take: name that in 'frappe_jobs_guest_queues'",
            "guest_unknown",
        )


def _say_once(text: str, action: str) -> None:
    if text not in _said:
        _said.add(text)
        logger.error("%s", text, extra={"action": action})


def _served(consumer: Any, runtime: Runtime) -> str | None:
    """One of the bench's queues that this worker serves; None while it serves none."""
    return next(iter(_all_served(consumer, runtime)), None)


def _all_served(consumer: Any, runtime: Runtime) -> list[str]:
    names = {queue.name for queue in getattr(consumer.task_consumer, "queues", ())}
    ours = runtime.settings.queues
    return [queue for queue in ours if runtime.broker.queue_name(queue) in names]
