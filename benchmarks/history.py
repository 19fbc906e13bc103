"""``python -m benchmarks.history``: what a history costs a worker that drains its queue."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

from benchmarks import arena
from benchmarks.contenders import OURS
from benchmarks.rooms.drain import draining
from benchmarks.rounds import Claim, interleave

#: The same worker, on a bench that keeps a history.
KEEPING = replace(OURS, name="with a history", sites="sites-with-history")
CONFIG = '{"bench_id": "benchmarks", "frappe_jobs_history": true}'
#: At most 3 % of the drain.
WANTED = 0.97


def main(rounds: int) -> None:
    with arena.opened() as place:
        shutil.copytree(place.sites(OURS), place.sites(KEEPING))
        (place.sites(KEEPING) / "common_site_config.json").write_text(CONFIG)
        both = {one.name: draining(place, one, 500, 2.0) for one in (OURS, KEEPING)}
        series = interleave("drain", both, rounds)
    for name, found in series.items():
        print(f"{name}: {found.median:.0f} jobs a second, quartiles {found.spread:.1%} apart")
    claim = Claim("drain", WANTED, series[KEEPING.name].over(series[OURS.name]))
    print(f"with a history / without: {claim.found.median:.3f}, {claim.verdict}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
