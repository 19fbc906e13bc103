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
from benchmarks.rounds import Claim, interleave
from frappe_jobs import runtime
from frappe_jobs.config import load_settings
from frappe_jobs.ledger.record import FINISHED
from frappe_jobs.message import Message, Sending

#: The same worker, on a bench that keeps a history.
KEEPING = replace(OURS, name="with a history", sites="sites-with-history")
CONFIG = '{"bench_id": "benchmarks", "frappe_jobs_history": true}'
#: At most 3 % of the drain.
WANTED = 0.97


#: Jobs whose steps are timed in a round.
STEPS = 1_000


def main(rounds: int) -> None:
    with arena.opened() as place:
        shutil.copytree(place.sites(OURS), place.sites(KEEPING))
        (place.sites(KEEPING) / "common_site_config.json").write_text(CONFIG)
        both = {one.name: draining(place, one, 500, 4.0) for one in (OURS, KEEPING)}
        steps = interleave("steps", {one.name: timed(place, one) for one in (OURS, KEEPING)}, 5)
        series = interleave("drain", both, rounds)
    for name, found in series.items():
        print(
            f"{name}: {found.median:.0f} jobs a second, quartiles {found.spread:.1%} apart; Redis "
            f"is busy for {steps[name].median:.1f} us with the two steps of a worker"
        )
    claim = Claim("drain", WANTED, series[KEEPING.name].over(series[OURS.name]))
    print(f"with a history / without: {claim.found.median:.3f}, {claim.verdict}")


def timed(place: arena.Arena, contender: Contender) -> Callable[[], float]:
    """Gives how long Redis itself takes for the start and the end of a job; in microseconds.

    What else the machine does hardly counts here, as it does in a drain.
    """
    server = place.server(contender)
    settings = replace(load_settings(place.sites(contender)), redis_queue=place.url(contender))
    ledger = runtime.Runtime(settings).ledger

    def steps() -> float:
        jobs = [_message() for _ in range(STEPS)]
        ledger.record([Sending(one) for one in jobs])
        server.config_resetstat()
        for one in jobs:
            ledger.start(one, "a worker")
            ledger.end(one, FINISHED, holder="a worker")
        took = float(server.info("commandstats")["cmdstat_evalsha"]["usec"])
        server.flushdb()
        return took / STEPS

    return steps


def _message() -> Message:
    made = str(uuid4())
    return Message(
        id=made, job_id=made, site="site1", user="Guest", method="benchmarks.tasks.noop",
        queue="default", name="noop", timeout=300, enqueued_at=time.time(),
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
