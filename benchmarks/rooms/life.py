"""What a job's life costs Redis: sent, taken, begun, ended, its result kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.arena import Arena
from benchmarks.contenders import BARE, OURS, Contender
from benchmarks.rounds import announced

TITLE = "a job's life in Redis"
#: Milliseconds of Redis's processor.
WANTED = 0.6
#: No claim from fewer jobs.
LEAST = 1_000


@dataclass(frozen=True)
class Cost:
    """Of one job."""

    #: Of Redis's processor, its system calls included.
    milliseconds: float
    #: Those inside scripts, too.
    commands: float
    #: What Redis holds more once it has ended.
    kept: float


@dataclass(frozen=True)
class Lives:
    """By contender, and of how many jobs."""

    found: Mapping[str, Cost]
    jobs: int

    @property
    def verdict(self) -> str:
        if self.jobs < LEAST:
            return f"no claim: {LEAST:,} jobs are the least"
        return "reached" if self.found[OURS.name].milliseconds <= WANTED else "MISSED"


def measure(arena: Arena, *, jobs: int, rounds: int) -> Lives:
    """The medians of the rounds; both send one by one, to a worker that runs."""
    found: dict[str, list[Cost]] = {OURS.name: [], BARE.name: []}
    for _ in announced(TITLE, rounds):
        for one in (OURS, BARE):
            found[one.name].append(_cost(arena, one, jobs))
            arena.clear(one)
    return Lives({name: _median(costs) for name, costs in found.items()}, jobs * rounds)


def _cost(arena: Arena, one: Contender, jobs: int) -> Cost:
    with arena.worker(one) as worker, arena.producer(one) as producer, arena.server(one) as server:
        producer.say("starts", 1)  # scripts are loaded, connections made
        before = _look(server)
        producer.send(jobs)
        arena.wait(one, worker, 0)
        after = _look(server)
    spent, commands, held = (late - early for late, early in zip(after, before, strict=True))
    return Cost(1_000 * spent / jobs, commands / jobs, held / jobs)


def _look(server: Any) -> tuple[float, float, float]:
    cpu, memory = server.info("cpu"), server.info("memory")
    commands = sum(one["calls"] for one in server.info("commandstats").values())
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], commands, memory["used_memory"]


def _median(costs: Sequence[Cost]) -> Cost:
    values = zip(*((one.milliseconds, one.commands, one.kept) for one in costs), strict=True)
    return Cost(*map(statistics.median, values))
