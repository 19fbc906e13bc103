"""``python -m benchmarks``: measure, print, and with ``--write`` renew what the docs quote."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks import arena, machine
from benchmarks.contenders import BARE, OURS, PEERS, PLAIN
from benchmarks.report import Results, schedule_text, text, with_schedule
from benchmarks.rooms import drain, enqueue, life, many, memory, schedule, start

NAME = "benchmarks"
#: Where the page quotes the text.
QUOTE = ("`docs/benchmarks.txt`:\n\n```text\n", "```\n")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int = 7
    calls: int = 400
    batch: int = 1_000
    warm_up: int = 200
    seconds: float = 1.0
    starts: int = 60
    lives: int = 2_000
    few_rounds: int = 5
    memory_jobs: int = 10_000
    sites: int = 1_000
    ticks: int = 1_000
    stock_due: int = 200
    schedule_rounds: int = 9


QUICK = Sizes(
    rounds=1, calls=20, batch=50, warm_up=50, seconds=0.05, starts=3, lives=20, few_rounds=1,
    memory_jobs=100,
    sites=20, ticks=20, stock_due=20, schedule_rounds=1,
)  # fmt: skip


def run(sizes: Sizes, *, peers: bool = True) -> Results:
    """Measure everything, on a server of its own."""
    asked = PEERS if peers else ()
    present = [one for one in asked if not one.absent]
    contenders = [OURS, BARE, PLAIN, *present] if peers else [OURS, BARE]
    before = machine.load()
    with arena.opened() as place:
        with place.server(OURS) as server:
            facts = machine.facts(server, [one for one in asked if one.absent])
        rates = [
            enqueue.measure(place, contenders, calls=sizes.calls, rounds=2 * sizes.rounds),
            many.measure(place, batch=sizes.batch, rounds=2 * sizes.rounds),
            drain.measure(
                place, contenders,
                jobs=sizes.warm_up, seconds=sizes.seconds, rounds=sizes.rounds,
            ),
        ]  # fmt: skip
        starts = start.measure(place, contenders, jobs=sizes.starts, rounds=sizes.few_rounds)
        lives = life.measure(place, jobs=sizes.lives, rounds=sizes.few_rounds)
        held = memory.measure(place, jobs=sizes.memory_jobs)
    facts["load"] = f"{before} before, {machine.load()} after (its own)"
    return Results(facts, rates, starts, lives, held, run_schedule(sizes), contenders)


def run_schedule(sizes: Sizes) -> schedule.Schedule:
    """Measure the scheduler alone, on a server of its own."""
    before = machine.load()
    with arena.opened() as place:
        with place.server(schedule.LARGE) as server:
            facts = machine.facts(server, packages=schedule.PACKAGES)
        found = schedule.measure(
            place, sites=sizes.sites, ticks=sizes.ticks, stock=sizes.stock_due,
            rounds=sizes.schedule_rounds,
        )  # fmt: skip
    return replace(found, facts=facts | {"load": f"{before} before"})


def write(found: str, folder: Path) -> None:
    """Renew the text, and the page's quote of it."""
    (folder / f"{NAME}.txt").write_text(found, encoding="utf-8")
    page = folder / f"{NAME}.md"
    if page.exists():
        before, begin, rest = page.read_text(encoding="utf-8").partition(QUOTE[0])
        _, end, after = rest.partition(QUOTE[1])
        page.write_text("".join([before, begin, found, end, after]), encoding="utf-8")


def plot(results: Results, folder: Path) -> None:
    if find_spec("matplotlib"):
        from benchmarks.plot import draw  # matplotlib is of the extra

        draw(results, folder / f"{NAME}.svg")
    else:
        print("No plot: matplotlib is not installed.", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: it runs, no more")
    parser.add_argument("--no-peers", action="store_true", help="frappe_jobs and Celery alone")
    parser.add_argument(
        "--only", choices=[schedule.TITLE], help="measure that alone; the rest of the docs stays"
    )
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="renew what the docs quote")
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else Sizes()
    if asked.only:
        found = run_schedule(sizes)
        print(schedule_text(found), end="")
        if asked.write:
            path = asked.write / f"{NAME}.txt"
            earlier = path.read_text(encoding="utf-8") if path.exists() else ""
            write(with_schedule(earlier, found), asked.write)
        return
    results = run(sizes, peers=not asked.no_peers)
    print(text(results), end="")
    if asked.write:
        write(text(results), asked.write)
        plot(results, asked.write)


if __name__ == "__main__":
    main()
