"""A worker that finds its queue full of jobs that do nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.arena import Arena
from benchmarks.contenders import BARE, OURS, Contender
from benchmarks.rounds import Claim, Rates, interleave

TITLE = "drain, one worker process"
WANTED = 2.2
LEAST, MOST = 50, 5_000


def measure(
    arena: Arena, contenders: Sequence[Contender], *, jobs: int, seconds: float, rounds: int
) -> Rates:
    """How many jobs a second each worker runs, a new worker in each round.

    The warm-up runs so many jobs; from its rate follows how many fill the seconds of a round.
    """
    series = interleave(
        TITLE, {one.name: draining(arena, one, jobs, seconds) for one in contenders}, rounds
    )
    return Rates(
        TITLE,
        f"no-op jobs a second, as many as take {seconds:g} s, their middle 80 %",
        series,
        BARE.name,
        Claim("drain", WANTED, series[OURS.name].over(series[BARE.name])),
    )


def draining(arena: Arena, contender: Contender, jobs: int, seconds: float) -> Callable[[], float]:
    """Fills the queue, starts a worker, and gives the rate from a tenth to nine tenths."""

    def drain() -> float:
        nonlocal jobs
        arena.fill(contender, jobs)
        with arena.worker(contender) as worker:
            many, begin = arena.wait(contender, worker, jobs * 9 // 10), time.perf_counter()
            few, end = arena.wait(contender, worker, jobs // 10), time.perf_counter()
        arena.clear(contender)
        rate = (many - few) / (end - begin)
        jobs = round(min(max(rate * seconds, LEAST), MOST))
        return rate

    return drain
