"""The scheduler of a large bench: its entries made, looked at, and due all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from benchmarks.arena import Arena, Producer
from benchmarks.contenders import CELERY_LIST, Contender
from benchmarks.rounds import Claim, Series, interleave
from benchmarks.scheduled import JOBS, make_bench
from frappe_jobs.scheduler.timetable import CHUNK

TITLE = "schedule"
#: What is promised: entries made a second, the ratio of two ticks, jobs queued a second.
MIGRATE, TICKS, QUEUE = 3_000, 1.5, 1_500
#: Milliseconds of a tick of Frappe's own scheduler for each site.
FRAPPE_TICK = 21
FRAPPE_ORIGIN = (
    "not of this run: Frappe 15.50's own scheduler on a bench of its own, 21 to 26 ms for a site "
    "with nothing due, 60 to 85 ms with all of its 43 jobs due, one site after another"
)
PACKAGES = ("celery", "celery-redbeat", "kombu", "redis", "SQLAlchemy")
#: Seconds.
HOUR, MINUTE = 3600, 60

LARGE = Contender(
    name="frappe_jobs",
    module="schedule",
    sites="large/sites",
    worker=(),
    waiting=lambda server: sum(server.llen(_list(queue)) for queue in ("default", "long")),
    remark="",
)
SMALL = replace(LARGE, name="frappe_jobs, one site", sites="small/sites")
STOCK = Contender(
    name="RedBeat's own",
    module="redbeat",
    worker=(),
    waiting=lambda server: int(server.llen(CELERY_LIST)),
    remark="",
)


def _list(queue: str) -> str:
    return CELERY_LIST.replace("default", queue)


@dataclass(frozen=True)
class Figure:
    """A line of what was found; with what is promised of it, if anything is."""

    what: str
    series: Series
    claim: Claim | None = None


@dataclass(frozen=True)
class Schedule:
    """What the room has found."""

    sites: int
    figures: Sequence[Figure]
    #: What it was measured on.
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        return self.sites * JOBS

    @property
    def rounds(self) -> int:
        return len(self.figures[0].series.values)


def measure(arena: Arena, *, sites: int, ticks: int, stock: int, rounds: int) -> Schedule:
    """The sites migrated, then ticks with nothing due, then all entries due, in so many rounds.

    Each round has so many ``ticks``; and ``stock`` due entries of RedBeat's own, of as many as ours
    are: for all of them it would take minutes.
    """
    make_bench(arena.sites(LARGE), sites)
    make_bench(arena.sites(SMALL), 1)
    entries = sites * JOBS
    with ExitStack() as stack:
        large, small, bare = (
            stack.enter_context(arena.producer(one)) for one in (LARGE, SMALL, STOCK)
        )
        made = _migrate(arena, large, sites, rounds)
        small.ask("migrate")
        bare.ask("save", entries)
        looks = _look(arena, large, small, ticks, rounds)
        large.ask("put_off", -MINUTE)
        ours, theirs = _queue(arena, large, bare, entries, stock, rounds)
    ratio = looks[0].over(looks[1])
    return Schedule(
        sites,
        [
            Figure("migrate, entries a second", made, Claim("migrate", MIGRATE, made)),
            Figure(f"tick with nothing due, {entries:,} entries, ms", looks[0]),
            Figure(f"tick with nothing due, {JOBS} entries, ms", looks[1]),
            Figure("the former to the latter", ratio, Claim("ticks", TICKS, ratio, at_most=True)),
            Figure("all due at once, queued a second", ours, Claim("queued", QUEUE, ours)),
            Figure(f"{STOCK.name}, {stock} due, sent a second", theirs),
            Figure("the former to the latter", ours.over(theirs)),
        ],
    )


def _migrate(arena: Arena, large: Producer, sites: int, rounds: int) -> Series:
    """Entries a second; each round, and the warm-up, makes as many."""
    each, left = divmod(sites, rounds + 1)
    large.ask("migrate", left)
    (made,) = interleave(
        f"{TITLE}, migrate", {"": lambda: each * JOBS / large.ask("migrate", each)}, rounds
    ).values()
    with arena.server(LARGE) as server:
        found = server.zcard("frappe_jobs:benchmarks:redbeat::schedule")
    _require(found, sites * JOBS, "entries made")
    return made


def _look(
    arena: Arena, large: Producer, small: Producer, ticks: int, rounds: int
) -> tuple[Series, Series]:
    """Milliseconds of a tick of each while nothing is due."""
    for one in (large, small):
        one.ask("put_off", HOUR)
        one.ask("lead")
        one.ask("put_off", HOUR)  # once more: the comparison gives entries their own times again
    many, few = interleave(
        f"{TITLE}, nothing due", {"many": _ticking(large, ticks), "few": _ticking(small, ticks)},
        rounds,
    ).values()  # fmt: skip
    _require(arena.waiting(LARGE) + arena.waiting(SMALL), 0, "jobs queued with nothing due")
    return many, few


def _queue(
    arena: Arena, large: Producer, bare: Producer, entries: int, stock: int, rounds: int
) -> tuple[Series, Series]:
    """Jobs a second of ours and of RedBeat's own."""
    ticks = ceil(entries / (rounds + 1) / CHUNK)
    ours, theirs = interleave(
        f"{TITLE}, all due",
        {"ours": _queueing(arena, LARGE, large, ticks),
         "theirs": _queueing(arena, STOCK, bare, 1, due=stock)},
        rounds,
    ).values()  # fmt: skip
    _require(arena.waiting(LARGE), entries, "jobs queued when all were due")
    _require(arena.waiting(STOCK), stock * (rounds + 1), "jobs queued by RedBeat's own")
    return ours, theirs


def _ticking(producer: Producer, ticks: int) -> Callable[[], float]:
    """Gives the milliseconds of a tick."""
    return lambda: producer.ask("tick", ticks) / ticks * 1000


def _queueing(
    arena: Arena, contender: Contender, producer: Producer, ticks: int, due: int = 0
) -> Callable[[], float]:
    """Lets it queue what so many ticks find due, and gives the jobs a second."""

    def queue() -> float:
        if due:
            producer.ask("due", due)
        before = arena.waiting(contender)
        seconds = producer.ask("tick", ticks)
        return (arena.waiting(contender) - before) / seconds

    return queue


def _require(found: Any, wanted: int, what: str) -> None:
    if found != wanted:
        raise RuntimeError(f"{what}: {found:,}, not {wanted:,}.")
