"""What a worker's processes hold: its parent and the child that runs the jobs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arena import Arena
from benchmarks.contenders import BARE, OURS, Contender
from benchmarks.rounds import announced
from frappe_jobs.celery import guard
from frappe_jobs.testing import wait_until

TITLE = "memory of a worker"
#: More than so much from a tenth of the jobs to all of them is no longer flat.
FLAT = 0.03
#: No claim from fewer jobs.
LEAST = 5_000
#: Kilobytes that may change between two looks: what others map is in PSS as well.
STILL = 200


@dataclass(frozen=True)
class Held:
    """Kilobytes of one process: with its share of what it shares (PSS), and with all of it."""

    pss: int
    rss: int


@dataclass(frozen=True)
class Memory:
    """For each contender, after so many jobs: its parent and its child."""

    title: str
    found: Mapping[str, Mapping[int, tuple[Held, Held]]]

    def growth(self, name: str) -> float:
        """How much more PSS after all jobs than after the first tenth of them."""
        totals = [sum(held.pss for held in both) for both in self.found[name].values()]
        return totals[-1] / totals[1] - 1

    @property
    def verdict(self) -> str:
        """What may be said of ours."""
        if max(self.found[OURS.name]) < LEAST:
            return f"no claim: {LEAST:,} jobs are the least"
        return "reached" if self.growth(OURS.name) <= FLAT else "MISSED"


def measure(arena: Arena, *, jobs: int) -> Memory | None:
    """Idle, and after a tenth, a half and all of the jobs; both workers at the same time.

    None where the system does not say (there is no ``/proc/<pid>/smaps_rollup``).
    """
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    stages = [0, jobs // 10, jobs // 2, jobs]
    found: dict[str, dict[int, tuple[Held, Held]]] = {OURS.name: {}, BARE.name: {}}
    with ExitStack() as stack:
        workers = {one: stack.enter_context(arena.worker(one)) for one in (OURS, BARE)}
        for number in announced(TITLE, len(stages)):
            if number:
                _run(arena, workers, stages[number] - stages[number - 1])
            for one, worker in workers.items():
                found[one.name][stages[number]] = _settled(worker.pid)
    return Memory(TITLE, found)


def _run(arena: Arena, workers: Mapping[Contender, subprocess.Popen[str]], jobs: int) -> None:
    for one in workers:
        with arena.producer(one) as producer:
            producer.send(jobs, one.fill)
    for one, worker in workers.items():
        arena.wait(one, worker, 0)


def _settled(pid: int) -> tuple[Held, Held]:
    """Parent and child, as soon as two looks at them find about the same."""
    looks: list[tuple[Held, Held]] = []

    def is_settled() -> bool:
        try:
            (child,) = filter(_runs_jobs, _children(pid))
            looks.append((_held(pid), _held(child)))
        except (ValueError, FileNotFoundError, ProcessLookupError):
            # A worker that starts has none yet, or a short one.
            return False
        changes = [abs(one.pss - two.pss) for one, two in zip(*looks[-2:])] if looks[1:] else []
        return bool(changes) and max(changes) < STILL

    wait_until(is_settled, 20, interval=0.2)
    return looks[-1]


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs_jobs(pid: int) -> bool:
    """Not the shell that waits for the worker's end."""
    return guard.NAME.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def _held(pid: int) -> Held:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return Held(kilobytes["Pss"], kilobytes["Rss"])
