"""From a call of enqueue to the start of its job, on a worker that has nothing to do."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.arena import Arena, Producer
from benchmarks.contenders import BARE, OURS, Contender
from benchmarks.rounds import announced

TITLE = "from enqueue to the job's start, idle worker"
#: Milliseconds: how much later than Celery's half of ours may start, and 99 of 100 at the latest.
BEHIND, LATEST = 0.5, 10.0
#: No claim from fewer jobs.
LEAST = 200


@dataclass(frozen=True)
class Starts:
    """Milliseconds of each job, by contender."""

    found: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.found[name])

    def late(self, name: str) -> float:
        """What 99 of 100 jobs do not exceed."""
        times = sorted(self.found[name])
        return times[min(len(times) - 1, len(times) * 99 // 100)]

    @property
    def behind(self) -> float:
        """How much later than Celery's half of ours start."""
        return self.median(OURS.name) - self.median(BARE.name)

    @property
    def verdict(self) -> str:
        if len(self.found[OURS.name]) < LEAST:
            return f"no claim: {LEAST} jobs are the least"
        is_reached = self.behind <= BEHIND and self.late(OURS.name) <= LATEST
        return "reached" if is_reached else "MISSED"


def measure(arena: Arena, contenders: Sequence[Contender], *, jobs: int, rounds: int) -> Starts:
    """So many jobs in each round, one after another; a new worker in each, which has run one."""
    measured = [one for one in contenders if one.enqueue == "enqueue" and not one.drain_only]
    found: dict[str, list[float]] = {one.name: [] for one in measured}
    for _ in announced(TITLE, rounds):
        for one in measured:
            with arena.worker(one), arena.producer(one) as producer:
                found[one.name] += [1_000 * seconds for seconds in _starts(producer, jobs)]
            arena.clear(one)
    return Starts(found)


def _starts(producer: Producer, jobs: int) -> list[float]:
    seconds: list[float] = json.loads(producer.say("starts", jobs))
    return seconds
