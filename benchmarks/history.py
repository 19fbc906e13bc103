"""``python -m benchmarks.history``: what a history costs a worker that drains its queue."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from benchmarks import arena
from benchmarks.contenders import OURS, Contender
from benchmarks.rooms.drain import draining
from benchmarks.rounds import Claim, Series, interleave
from frappe_jobs import runtime
from frappe_jobs.config import load_settings
from frappe_jobs.ledger.record import FINISHED
from frappe_jobs.message import Message, Sending

#: The same worker, on a bench that keeps a history.
KEEPING = replace(OURS, name="with a history", sites="sites-with-history")
CONFIG = '{"bench_id": "benchmarks", "frappe_jobs_history": true}'
#: A job may take at most 3 % longer.
WANTED = 1.03
#: Jobs whose steps are timed in a round, and rounds of that for one of a drain: a drain swings by
#: more than 3 %, as workers are started for it.
STEPS, ROUNDS = 400, 4


def main(rounds: int) -> None:
    with arena.opened() as place:
        shutil.copytree(place.sites(OURS), place.sites(KEEPING))
        (place.sites(KEEPING) / "common_site_config.json").write_text(CONFIG)
        steps = {one.name: timed(place, one) for one in (OURS, KEEPING)}
        taken = interleave("steps", steps, rounds * ROUNDS)
        both = {one.name: draining(place, one, 500, 4.0) for one in (OURS, KEEPING)}
        rates = interleave("drain", both, rounds)
    for name, found in rates.items():
        print(
            f"{name}: {found.median:.0f} jobs a second, quartiles {found.spread:.1%} apart; of a "
            f"job {taken[name].median:.0f} us are its start and its end"
        )
    print(f"the drains' ratio: {rates[KEEPING.name].over(rates[OURS.name]).median:.3f}")
    job = 1e6 / rates[OURS.name].median
    pairs = zip(taken[KEEPING.name].values, taken[OURS.name].values, strict=True)
    longer = Series(tuple((job + more - less) / job for more, less in pairs))
    claim = Claim("a job's time", WANTED, longer, at_most=True)
    print(f"a job of {job:.0f} us takes {longer.median - 1:.1%} longer: {claim.verdict}")


def timed(place: arena.Arena, contender: Contender) -> Callable[[], float]:
    """Gives how long a job's process is busy with the start and the end of a job; in microseconds.

    That is all that a history adds to what its worker does one after another.
    """
    server = place.server(contender)
    settings = replace(load_settings(place.sites(contender)), redis_queue=place.url(contender))
    ledger = runtime.Runtime(settings).ledger

    def steps() -> float:
        jobs = [_message() for _ in range(STEPS)]
        ledger.record([Sending(one) for one in jobs])
        begin = time.perf_counter()
        for one in jobs:
            ledger.start(one, "a worker")
            ledger.end(one, FINISHED, holder="a worker")
        took = time.perf_counter() - begin
        server.flushdb()
        return took * 1e6 / STEPS

    return steps


def _message() -> Message:
    made = str(uuid4())
    return Message(
        id=made, job_id=made, site="site1", user="Guest", method="benchmarks.tasks.noop",
        queue="default", name="noop", timeout=300, enqueued_at=time.time(),
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
