"""What Redis knows of a bench at one moment; who asks at the same time is told the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frappe_jobs.history.counts import Counts
from frappe_jobs.ledger.delayed import Elsewhere
from frappe_jobs.ledger.pauses import what_is_paused
from frappe_jobs.ledger.reports import Report, Reports
from frappe_jobs.runtime import Runtime


@dataclass(frozen=True)
class Snapshot:
    """By queue, where it is a mapping; ages and lags in seconds, None where there is none."""

    waiting: Mapping[str, int]
    #: Those in other places, and the waiting ones that a pause holds back.
    elsewhere: Mapping[str, Elsewhere]
    paused: Mapping[str, int]
    #: Jobs that should long have been sent to their queues.
    overdue: int
    oldest: Mapping[str, float | None]
    failed_kept: Mapping[str, int]
    running: int
    counts: Mapping[str, Counts]
    workers: Sequence[Report]
    #: Transactions with jobs that may still be unsent, and sites with rows in their outbox.
    outbox_notes: int
    outbox_sites: int
    leader: str | None
    last_look: float | None
    #: How long the most overdue scheduled job has been due; 0: none is.
    schedule_lag: float


def take(here: Runtime) -> Snapshot:
    """Ask Redis; raises BrokerUnavailable."""
    ledger, timetable, queues = here.ledger, here.timetable, [*here.settings.queues]
    with ledger.reaching():
        seconds, microseconds = ledger.redis.time()
        now = seconds + microseconds / 1e6
        with ledger.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zcard(ledger._key("waiting", queue))
                pipe.zcount(ledger._key("failed", queue), now - here.settings.job_failure_ttl, now)
            pipe.zcard(ledger._key("running"))
            pipe.zcard(ledger._key("outbox"))
            pipe.zcard(ledger._key("outbox", "sites"))
            *by_queue, running, notes, sites = pipe.execute()
    oldest = {queue: ledger.oldest(queue) for queue in queues}
    seen, first = timetable.last_look(), timetable.first_due()
    waiting = dict(zip(queues, by_queue[::2], strict=True))
    return Snapshot(
        waiting=waiting, elsewhere=ledger.delayed_by_queue(queues),
        paused=_paused(here, waiting), overdue=ledger.count_overdue(),
        oldest={queue: None if at is None else max(0, now - at) for queue, at in oldest.items()},
        failed_kept=dict(zip(queues, by_queue[1::2], strict=True)),
        running=running, counts=here.history.totals(), workers=Reports(ledger).all(),
        outbox_notes=notes, outbox_sites=sites, leader=timetable.leader(),
        last_look=None if seen is None else max(0, now - seen.at),
        schedule_lag=0 if first is None else max(0, now - first),
    )  # fmt: skip


def _paused(here: Runtime, waiting: Mapping[str, int]) -> dict[str, int]:
    """Of each queue how many jobs a pause of it, or of their sites, holds back."""
    pauses = here.ledger.pauses()
    return {
        queue: (
            count
            if what_is_paused(queue, pauses) == "all"
            else here.broker.held_back(queue, is_paused=False) if pauses else 0
        )
        for queue, count in waiting.items()
    }
