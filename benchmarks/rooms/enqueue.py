"""Sending jobs one by one: each call checks, records and sends before it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks.arena import Arena, Producer
from benchmarks.contenders import BARE, OURS, Contender
from benchmarks.rounds import Claim, Rates, interleave

TITLE = "enqueue, one job for each call"
WANTED = 3.4


def measure(arena: Arena, contenders: Sequence[Contender], *, calls: int, rounds: int) -> Rates:
    """How many calls a second each makes; nobody takes the jobs meanwhile."""
    with ExitStack() as stack:
        measures = {
            one.name: sending(arena, one, stack.enter_context(arena.producer(one)), calls)
            for one in contenders
            if not one.drain_only
        }
        series = interleave(TITLE, measures, rounds)
    return Rates(
        TITLE,
        f"calls a second, {calls} calls in each round",
        series,
        BARE.name,
        Claim("enqueue", WANTED, series[OURS.name].over(series[BARE.name])),
    )


def sending(
    arena: Arena, contender: Contender, producer: Producer, calls: int, call: str = ""
) -> Callable[[], float]:
    """Sends so many jobs at each call, and gives the rate; they are gone afterwards."""

    def send() -> float:
        seconds = producer.send(calls, call)
        if (waiting := arena.waiting(contender)) != calls:
            raise RuntimeError(f"{contender.name}: {waiting} of {calls} jobs wait.")
        arena.clear(contender)
        return calls / seconds

    return send
