"""Sending a thousand jobs in one call."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.contenders import BARE, OURS
from benchmarks.rooms.enqueue import sending
from benchmarks.rounds import Claim, Rates, interleave

TITLE = "enqueue_many against as many calls"
WANTED = 12.0
NAME = "frappe_jobs, enqueue_many"


def measure(arena: Arena, *, batch: int, rounds: int) -> Rates:
    """How many jobs a second are sent, by one call of ours and by Celery's one for each."""
    with arena.producer(OURS) as ours, arena.producer(BARE) as bare:
        series = interleave(
            TITLE,
            {
                NAME: sending(arena, OURS, ours, batch, "enqueue_many"),
                BARE.name: sending(arena, BARE, bare, batch),
            },
            rounds,
        )
    return Rates(
        TITLE,
        f"jobs a second, {batch:,} jobs in each round",
        series,
        BARE.name,
        Claim(f"enqueue_many of {batch:,}", WANTED, series[NAME].over(series[BARE.name])),
    )
