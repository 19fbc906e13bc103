"""How much of Redis a whole history takes: 50 queues, 1,000 sites, 100 methods a minute."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import redis

from frappe_jobs.embedded import running
from frappe_jobs.history.chunk import BOUNDS, Chunk
from frappe_jobs.history.keys import HOURS, MINUTES, ONE_MINUTE, Resolution
from frappe_jobs.ledger.counting import JOBS, JOBS_FIELDS, _names

NAMES = {
    "queue": [f"queue-{n}" for n in range(50)],
    "site": [f"customer{n}.example.com" for n in range(1000)],
    "method": [f"shop.module_{n % 17}.tasks.method_{n}" for n in range(100)],
}
#: 50 a second: 4.3 million a day.
JOBS_A_MINUTE = 3_000
PREFIX = "frappe_jobs:bench:history"
LIMIT = 20 * 1024 * 1024


def class_of(draw: random.Random) -> int:
    """Of a time around a second, most within a factor of eight."""
    seconds = math.exp(draw.gauss(0, 1))
    return min(120, math.ceil(math.log(seconds / 0.001) * 4 / math.log(2)))


def shares() -> dict[int, float]:
    """How likely each class is."""
    draw, many = random.Random(1), 20_000
    found = Counter(class_of(draw) for _ in range(many))
    return {number: count / many for number, count in found.items()}


def poisson(draw: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(draw.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, draw.random()
    while product > limit:
        count, product = count + 1, product * draw.random()
    return count


def codes(draw: random.Random, jobs: float, of_classes: dict[int, float]) -> Counter[str]:
    """Of a minute or an hour in which about so many jobs came, most of which ran in it as well."""
    came, crossed = poisson(draw, jobs), min(jobs, JOBS_A_MINUTE / 1000) / 20
    ran = max(0, came + poisson(draw, crossed) - poisson(draw, crossed))
    failed, retried = min(ran, poisson(draw, jobs / 50)), poisson(draw, jobs / 100)
    found = Counter(e=came, s=retried, r=retried, f=ran - failed, x=failed)
    if not of_classes:
        return found + Counter(w=ran)
    for letter in "wt":
        if ran > 10 * len(of_classes):  # to draw one by one takes long
            drawn = {number: poisson(draw, ran * share) for number, share in of_classes.items()}
        else:
            drawn = Counter(draw.choices([*of_classes], [*of_classes.values()], k=ran))
        found.update({f"{letter}{number}": count for number, count in drawn.items()})
    return +found


def full_chunk(kind: str, resolution: Resolution) -> bytes:
    """A chunk of that load, as folding leaves it."""
    draw, of_classes, chunk = random.Random(kind), shares(), Chunk(resolution.slots)
    jobs = JOBS_A_MINUTE * resolution.step / 60 / len(NAMES[kind])
    for slot in range(resolution.slots):
        counted = {}
        for place, name in enumerate(NAMES[kind]):
            # without times from the start where they would be left out
            known = of_classes if place < BOUNDS[kind].with_times else {}
            counted[name] = codes(draw, jobs, known)
        chunk.add(slot, counted)
    chunk.bound(BOUNDS[kind])
    return chunk.packed()


def one_minute(jobs: int) -> dict[str, Counter[str]]:
    """The hashes of a minute that nobody has folded yet, as counting leaves them."""
    draw, found = random.Random(2), defaultdict(Counter)
    for _ in range(jobs):
        names = [draw.choice(names) for names in NAMES.values()]
        for code in ("e", f"w{class_of(draw)}", f"f{class_of(draw)}"):
            field = code.encode() + b":" + _names(*names)
            if field in found[JOBS] or len(found[JOBS]) < JOBS_FIELDS:
                found[JOBS][field] += 1
                continue
            for kind, name in zip(NAMES, names, strict=True):
                found[kind][f"{code}:{name}"] += 1
    return found


@pytest.mark.timeout(600)
def test_the_whole_history_of_a_large_bench_takes_less_than_20_mb(server: Path, record_property):
    """25 hours, 31 days, the minutes of the hour that goes on, and two that are not folded yet."""
    with redis.Redis.from_url(running(server)) as client:
        empty, parts = client.info("memory")["used_memory"], {}
        for kind in NAMES:
            for resolution in (MINUTES, HOURS):
                text = full_chunk(kind, resolution)
                for number in range(1 + resolution.kept // resolution.chunk):
                    client.set(f"{PREFIX}:{resolution.name}:{kind}:{number}", text)
                used = client.info("memory")["used_memory"] - empty
                parts[f"{kind} by {resolution.name}"] = used - sum(parts.values())
        for kind in NAMES:
            text = full_chunk(kind, ONE_MINUTE)
            for number in range(60):
                client.set(f"{PREFIX}:apart:{kind}:{number}", text)
        used = client.info("memory")["used_memory"] - empty
        parts["apart"] = used - sum(parts.values())
        for number in range(2):
            for kind, fields in one_minute(2 * JOBS_A_MINUTE).items():  # busier than ever
                with client.pipeline(transaction=False) as pipeline:
                    for field, count in fields.items():  # one by one, as they come
                        pipeline.hincrby(f"{PREFIX}:{kind}:{number}", field, count)
                    pipeline.execute()
        used = client.info("memory")["used_memory"] - empty
        parts["not folded"] = used - sum(parts.values())
        record_property("bytes", parts)
        print({name: f"{size / 2**20:.2f} MB" for name, size in parts.items()}, used / 2**20)
        assert used < LIMIT, parts
