"""What RQ has in a bench's Redis: its workers, and the jobs that wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import redis

from frappe_jobs.ledger.connection import connect
from frappe_jobs.ledger.server import QUESTION_LIMITS


@dataclass(frozen=True)
class SeenOfRQ:
    """What RQ has of one bench."""

    #: The names of the workers that are alive, or were killed within the last 8 minutes or so.
    workers: Sequence[str]
    #: How many jobs wait, by queue; empty queues are left out.
    waiting: Mapping[str, int]


def look_at_rq(url: str, bench_id: str, queues: Iterable[str]) -> SeenOfRQ | None:
    """Read RQ's own keys; None where they cannot be read."""
    try:
        with connect(url, **QUESTION_LIMITS) as client:
            known: set[str] = set()
            waiting = {}
            for name in queues:
                known |= client.smembers(f"rq:workers:{bench_id}:{name}")
                waiting[name] = int(client.llen(f"rq:queue:{bench_id}:{name}"))
            # RQ's lists keep workers that were killed; a worker's own key expires.
            alive = [key for key in sorted(known) if client.hexists(key, "birth")]
    except (redis.RedisError, ValueError):  # the servers' findings say what is wrong with it
        return None
    workers = [key.removeprefix("rq:worker:") for key in alive]
    return SeenOfRQ(workers, {name: count for name, count in waiting.items() if count})
