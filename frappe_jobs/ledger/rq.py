"""What RQ has in a bench's Redis: its workers, and the jobs that wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import redis

from frappe_jobs.ledger.connection import connect
from frappe_jobs.ledger.server import QUESTION_LIMITS


@dataclass(frozen=True)
class SeenOfRQ:
    """RQ's side of one bench."""

    #: The names of the workers that are alive, or died without a word within about 8 minutes.
    workers: Sequence[str]
    #: How many jobs wait, by queue; those with none are left out.
    waiting: Mapping[str, int]


def look_at_rq(url: str, bench_id: str, queues: Iterable[str]) -> SeenOfRQ | None:
    """Read RQ's own keys; None where they cannot be read."""
    names = [*queues]
    try:
        with connect(url, **QUESTION_LIMITS) as client:
            known: set[str] = set()
            waiting = {}
            for name in names:
                known |= client.smembers(f"rq:workers:{bench_id}:{name}")
                waiting[name] = int(client.llen(f"rq:queue:{bench_id}:{name}"))
            # RQ's lists keep those that were killed; what a worker says of itself expires.
            alive = [key for key in sorted(known) if client.hexists(key, "birth")]
    except (redis.RedisError, ValueError):  # what is wrong with it, the servers' findings say
        return None
    workers = [key.removeprefix("rq:worker:") for key in alive]
    return SeenOfRQ(workers, {name: count for name, count in waiting.items() if count})
