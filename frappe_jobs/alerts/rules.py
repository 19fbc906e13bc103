"""What is wrong with a bench now, by rule: the name of each, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from frappe_jobs.ledger.counting import IN_A_ROW
from frappe_jobs.ledger.record import QUEUED
from frappe_jobs.ledger.reports import Reports
from frappe_jobs.runtime import Runtime

#: Seconds without a look of any scheduler, at least.
SILENT = 60
#: Methods that one alert names at most.
NAMED = 20


def wrong_now(here: Runtime, failures: int, *, is_scheduler: bool) -> dict[str, str]:
    """By rule, for people; raises BrokerUnavailable.

    A scheduler does not ask whether there is one: the workers do.
    """
    found = {**dict(_unserved(here)), **dict(_late(here)), **dict(_failing(here, failures))}
    if not is_scheduler:
        found |= dict(_unscheduled(here))
    return found


def _unserved(here: Runtime) -> Iterator[tuple[str, str]]:
    """Queues with jobs and no worker."""
    full = [queue for queue in here.settings.queues if here.ledger.waiting(queue)]
    served = {queue for report in Reports(here.ledger).all() for queue in report.queues}
    if {*full} <= served:
        return
    # workers of an older version report nothing, and answer when they are asked
    served |= {queue for worker in here.broker.workers() for queue in worker.queues}
    for queue in full:
        if queue not in served:
            many = here.ledger.waiting(queue)
            yield f"no-worker:{queue}", (
                f"The queue {queue!r} has jobs ({many}) and no worker. Start one: frappe-jobs "
                f"worker --queue {queue}."
            )


def _late(here: Runtime) -> Iterator[tuple[str, str]]:
    """Queues whose oldest job has waited for longer than their timeout."""
    now = float(here.ledger.redis.time()[0])
    for queue in here.settings.queues.values():
        since = now - queue.timeout
        found = here.ledger.suspects([queue.name], waiting_since=since, looked_for=now)
        late = [
            one.message for one in found
            if one.status == QUEUED and one.message.queue == queue.name
        ]  # fmt: skip
        if late:
            oldest = min(late, key=lambda message: message.enqueued_at)
            age = timedelta(seconds=int(now - oldest.enqueued_at))
            yield f"late:{queue.name}", (
                f"In the queue {queue.name!r} {oldest.name} of {oldest.site} has waited for {age}, "
                f"longer than a job there may run ({queue.timeout} s). Start more workers for it."
            )


def _failing(here: Runtime, failures: int) -> Iterator[tuple[str, str]]:
    """Methods that have failed so often without a success."""
    with here.ledger.reaching():
        found = here.ledger.redis.hgetall(here.ledger._key(IN_A_ROW))
    often = {method: int(many) for method, many in found.items() if int(many) >= failures}
    for method in sorted(often, key=lambda one: -often[one])[:NAMED]:
        yield f"fails:{method}", (
            f"{method} has failed {often[method]} times in a row. See: frappe-jobs jobs list "
            "--status failed."
        )


def _unscheduled(here: Runtime) -> Iterator[tuple[str, str]]:
    """Scheduled jobs, and no scheduler."""
    seen = here.timetable.last_look()
    if here.timetable.first_due() is None or seen is None:  # there never was one
        return
    silent = here.timetable.now() - seen.at
    if silent > max(SILENT, 2 * here.settings.scheduler_lock):
        yield "no-scheduler", (
            f"No scheduler has looked for {timedelta(seconds=int(silent))}: no scheduled job is "
            "queued. Start one: frappe-jobs schedule."
        )
