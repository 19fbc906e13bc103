"""Jobs of this bench's sites that wait under another bench id, perhaps because it was moved.

A bench id that nobody has set is made from the folder's path, so a bench that is moved, or released
into a folder of its own, does not see what waits under its old id.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import redis

from frappe_jobs.config import Settings
from frappe_jobs.ledger import Ledger

#: What all keys of all benches begin with, and what stands between a bench's id and a site.
OURS, OPEN = "frappe_jobs:", ":open:"

#: Seconds for the look, as the server may hold very many keys; and keys in one step of it.
LOOK_TIMEOUT, STEP = 3.0, 5_000


def sisters(ledger: Ledger, settings: Settings, sites: Collection[str]) -> dict[str, int]:
    """By the ids of other benches: how many jobs of these sites wait or run there.

    -1 where that may not be asked.  Raises BrokerUnavailable.
    """
    found: dict[str, int] = {}
    deadline = time.monotonic() + LOOK_TIMEOUT
    with ledger.reaching():
        for key in ledger.redis.scan_iter(f"{OURS}*{OPEN}*", count=STEP):
            bench_id, _, site = key.removeprefix(OURS).rpartition(OPEN)
            if bench_id != settings.bench_id and site in sites:
                found[bench_id] = found.get(bench_id, 0) + _count(ledger.redis, key)
            if time.monotonic() > deadline:
                break
    return found


def _count(server: Any, key: str) -> int:
    try:
        return int(server.zcard(key))
    except redis.ResponseError:  # the user's rights end at the bench's own keys
        return -1
