"""A bench with very many jobs by the clock, its schedulers, and the verdict on its due times."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import cycle
from pathlib import Path

import pytest

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

IS_FULL = os.environ.get("CHAOS") == "full"

#: Where it is the same but for what carries the messages, the short form looks at one of them.
on_brokers = pytest.mark.parametrize("broker", ["redis", "rabbitmq"] if IS_FULL else ["redis"])

JOBS = 200 if IS_FULL else 60
#: Seconds from one due time of a job to its next; in each of them a tenth of the jobs is due.
INTERVAL = 10
#: Seconds that a scheduler leads without a sign of life.
LOCK = 2

TASKS = """
import frappe_jobs as frappe
from acme.trace import mark


def _run(number):
    message = frappe.get_current_job().message
    mark("run", job=number, enqueued_at=message.enqueued_at, due=message.arguments["due"])


{functions}
"""


def make_jobs(bench, count: int = JOBS) -> None:
    """Give its first site the jobs, and migrate it."""
    functions = "".join(f"def job{n}():\n    _run({n})\n\n\n" for n in range(count))
    (bench.path / "acme" / "many.py").write_text(TASKS.format(functions=functions))
    cron: dict[str, list[str]] = {}
    for n in range(count):
        second = n % INTERVAL
        cron.setdefault(f"* * * * * {second}-59/{INTERVAL}", []).append(f"acme.many.job{n}")
    events = {"cron": cron}
    (bench.path / "acme" / "hooks.py").write_text(f"scheduler_events = {events!r}\n")
    assert bench.run("--site", "site1", "migrate").returncode == 0


#: What a process with a clock of its own imports first.
AHEAD = """
import time

real = time.time


def now():
    with open({file!r}) as file:
        return real() + float(file.read())


time.time = now
"""


class OwnClock:
    """What ``time.time()`` says in processes that start with it: ahead by as much as it is told."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "ahead"
        self.variables = {"PYTHONPATH": str(folder)}
        (folder / "sitecustomize.py").write_text(AHEAD.format(file=str(self._file)))
        self.set(0)

    def set(self, seconds: float) -> None:
        draft = self._file.with_name("draft")
        draft.write_text(f"{seconds:+.0f}")
        draft.replace(self._file)

    @contextmanager
    def of(self, bench) -> Iterator[None]:
        """The processes that the bench starts meanwhile have it."""
        before = bench.variables, bench.starts_cold
        bench.variables, bench.starts_cold = bench.variables | self.variables, True
        try:
            yield
        finally:
            bench.variables, bench.starts_cold = before


class Schedulers(AbstractContextManager["Schedulers"]):
    """So many schedulers of one bench; who was killed is replaced."""

    def __init__(self, bench, size: int = 3, clocks: Sequence[OwnClock] = ()) -> None:
        self._bench, self._stack = bench, ExitStack()
        self._clocks = cycle(clocks) if clocks else None
        self.running = [self._start() for _ in range(size)]

    def _start(self):
        own = next(self._clocks).of(self._bench) if self._clocks else nullcontext()
        with own:
            return self._stack.enter_context(self._bench.process("schedule"))

    def __enter__(self):
        self.wait_for_leader()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0]:
            print("\n\n".join(one.log for one in self.running))
        self._stack.close()

    def wait_for_leader(self, but: str | None = None, timeout: float = 60) -> str:
        def leads():
            leader = runtime.current().timetable.leader()
            return leader if leader != but else None

        return str(wait_until(leads, timeout))

    def kill_leader(self) -> float:
        """Gives the seconds until another one leads."""
        leader = self.wait_for_leader()
        pid = int(leader.split("/")[1])
        (place,) = [n for n, one in enumerate(self.running) if one.process.pid == pid]
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.running[place].process.wait(10)
        self.running[place] = self._start()
        self.wait_for_leader(but=leader)
        return time.monotonic() - begun

    def stop(self) -> None:
        """Once all that is due has been queued; all of them end well."""
        for one in self.running:
            one.wait_ready()
        wait_until(lambda: min(entries().values()) > time.time(), 30)
        assert [one.stop() for one in self.running] == [0] * len(self.running)


def entries() -> dict[str, float]:
    """When each job is due, by its name in the records."""
    found = runtime.current().timetable.of_site("site1")
    return {name: pair[1] for name, pair in found.items() if pair}


def markers() -> dict[str, list[float]]:
    """The due times that have been queued, by name: each has left one."""
    here = runtime.current()
    prefix = f"{here.settings.prefix}due:site1:"
    times: dict[str, list[float]] = defaultdict(list)
    for key in here.ledger.redis.scan_iter(f"{prefix}*", count=1000):
        name, at, *_ = key.removeprefix(prefix).split(":")
        times[name].append(float(at))
    return times


def queued() -> Counter[str]:
    """How many due times have been queued, by name."""
    return Counter({name: len(times) for name, times in markers().items()})


def sent() -> Counter[str]:
    """How many messages there have been, by name."""
    records = runtime.current().ledger.records("site1")
    return Counter(one.message.arguments["job_type"] for one in records)


def logs() -> Counter[str]:
    """How many runs have come to their end, by name; a killed one is begun again."""
    with frappe.site("site1"):
        rows = frappe.get_all(
            "Scheduled Job Log", {"status": "Complete"}, fields=["scheduled_job_type"]
        )
    return Counter(row["scheduled_job_type"] for row in rows)


def due_times(first: dict[str, float], last: dict[str, float]) -> Counter[str]:
    return Counter({name: round((last[name] - at) / INTERVAL) for name, at in first.items()})


def missed(first: dict[str, float], expected: Counter[str]) -> int:
    """How many due times were not queued, though the job had no message then that had not ended.

    What waits or runs when it is due again is not queued again, as in Frappe: a machine may be too
    busy for all that is due.
    """
    busy = defaultdict(list)
    for record in runtime.current().ledger.records("site1"):
        arguments = record.message.arguments
        busy[arguments["job_type"]].append((arguments["due"], record.ended_at or math.inf))
    done = markers()
    return sum(
        all(abs(at - one) > 1 for one in done[name])
        and not any(begun < at < ended for begun, ended in busy[name])
        for name, count in expected.items()
        for at in (first[name] + INTERVAL * n for n in range(count))
    )


def faults(first: dict[str, float], expected: Counter[str]) -> str:
    """How many due times were missed, were queued twice, and ran twice."""
    done = queued()
    twice, again = sent() - done, logs() - done
    return (
        f"{missed(first, expected)} missed, {twice.total()} queued twice, {again.total()} ran twice"
    )


NONE = "0 missed, 0 queued twice, 0 ran twice"


#: In one step, as a flush is: what is written in between would outlive what it belongs to.
FORGET = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end"


def forget(bench) -> None:
    """A flush, of what is the bench's in a server that others use."""
    runtime.current().ledger.redis.eval(FORGET, 0, f"*{bench.id}*")


def wait_for_more(scene, count: int, timeout: float = 60) -> None:
    """Return once so many jobs have run from now on."""
    wanted = len(runs(scene)) + count
    wait_until(lambda: len(runs(scene)) > wanted, timeout)


def runs(scene) -> list[dict]:
    return scene.bench.marks("run")
