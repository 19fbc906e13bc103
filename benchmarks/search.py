"""``python -m benchmarks.search``: searches, and bulk actions, on a bench with many jobs."""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.arena import make_sites, server_in
from frappe_jobs import runtime
from frappe_jobs.bulk.shown import look
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED
from frappe_jobs.message import Message, Sending
from frappe_jobs.runtime import Runtime

CONFIG = {
    "bench_id": "benchmarks", "frappe_jobs_search_index": True, "rq_results_ttl": 86400,
    "rq_failed_jobs_limit": 100000,
}  # fmt: skip
SITES = ("site1", "site2")
#: Milliseconds for a page, at the 95th percentile; seconds for so many jobs in bulk.
WANTED, WANTED_BULK, BULK = 200, 5, 10_000
CHUNK, PAGES = 500, 20

METHOD, USER, QUEUE = "shop.tasks.method_7", "user3@example.com", "long"
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "all": {},
    "queue": {"queues": [QUEUE]},
    "method": {"method": METHOD},
    "a method that there is not": {"method": "shop.tasks.nothing"},
    "user": {"user": USER},
    "user, method": {"user": USER, "method": METHOD},
    "user, method, queue": {"user": USER, "method": METHOD, "queues": [QUEUE]},
    "waiting, user, queue": {"statuses": ["queued"], "user": USER, "queues": [QUEUE]},
    "cancelled": {"statuses": [CANCELLED]},
    "failed, method": {"statuses": [FAILED], "method": METHOD},
    "error": {"error": "address 37"},
    "error, user": {"error": "address", "user": USER},
    "an error that there is not": {"error": "nothing"},
    "id": {"job": "nothing"},
}


def messages(seed: int, count: int, begun: float) -> Iterator[Message]:
    draw = random.Random(seed)
    for number in range(count):
        made = str(uuid4())
        yield Message(
            id=made, job_id=made, site=SITES[number % 10 == 0],
            user=f"user{draw.randrange(200)}@example.com",
            method=f"shop.tasks.method_{int(draw.paretovariate(0.5)) % 300}",
            queue=draw.choice(["short", "default", "default", "long"]), name="a job", timeout=300,
            enqueued_at=begun + number / 100,
            arguments={"doctype": "Sales Invoice", "name": f"SINV-{number:06}"},
        )  # fmt: skip


def fill(here: Runtime, waiting: int, ended: int) -> None:
    """Record the jobs as ``enqueue_many`` does, without their messages, and end some of them."""
    begun = time.time() - 20_000
    for seed, count in enumerate((waiting, ended)):
        made = messages(seed, count, begun)
        while some := [*islice(made, CHUNK)]:
            here.ledger.record([Sending(one) for one in some])
            if seed:
                end(here, some)


def end(here: Runtime, some: list[Message]) -> None:
    with here.ledger.redis.pipeline(transaction=False) as pipe:
        for number, one in enumerate(some):
            status = (FAILED, CANCELLED, FINISHED, FINISHED, FINISHED)[number % 5]
            reason = f"ValidationError: Customer {number} has no address {number % 100}"
            fields = {"reason": reason} if status == FAILED else {}
            here.ledger._ended(one, status, fields, False, client=pipe)
        pipe.execute()


def pages(here: Runtime, filters: Mapping[str, Any]) -> list[float]:
    """The milliseconds of its first pages."""
    search, cursor, found = here.search(SITES[:1], **filters), None, []
    for _ in range(PAGES):
        begun = time.perf_counter()
        page = search.page(cursor, 50)
        found.append((time.perf_counter() - begun) * 1000)
        cursor = page.cursor
        if cursor is None:
            break
    return found


def percentile(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def main(waiting: int, ended: int) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name, server_in(name) as url:
        here = runtime.use(make_sites(Path(name) / "sites", url, SITES, CONFIG))
        fill(here, waiting, ended)
        used = here.ledger.redis.info("memory")["used_memory"] / (waiting + ended)
        print(f"{waiting:,} jobs wait, {ended:,} have ended; {used:,.0f} bytes for each")
        every = []
        for name, filters in SEARCHES.items():
            times = pages(here, filters)
            every += times
            print(f"  {name:<28} {percentile(times):>7.1f} ms, of {len(times)} pages")
        found = percentile(every)
        verdict = "reached" if found <= WANTED else "MISSED"
        print(f"95th percentile of all: {found:.1f} ms, wanted {WANTED}: {verdict}")
        for action, status in (("retry", FAILED), ("cancel", "queued"), ("delete", FINISHED)):
            shown = look(here.search(SITES[:1], statuses=[status]), BULK)
            begun = time.perf_counter()
            done = getattr(here.bulk, action)(shown, SITES[:1]).done
            took = time.perf_counter() - begun
            print(f"{action} {len(done):,}: {took:.1f} s, wanted {WANTED_BULK} for {BULK:,}")


if __name__ == "__main__":
    sizes = [int(one) for one in sys.argv[1:]] or [1_000_000, 100_000]
    main(*sizes)
