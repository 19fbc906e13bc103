"""A sites folder whose sites have an app with fifty scheduled jobs."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

#: How many jobs of each event: about what Frappe, ERPNext and HRMS have together, by halves.
EVENTS = {
    "all": 2, "hourly": 6, "hourly_long": 6, "hourly_maintenance": 3,
    "daily": 8, "daily_long": 6, "daily_maintenance": 4, "weekly": 3, "weekly_long": 2,
    "monthly": 2, "monthly_long": 1, "yearly": 1,
}  # fmt: skip
CRON = {"*/15 * * * *": 2, "0/10 * * * *": 1, "30 2 * * 1-5": 2, "0 9 L * *": 1}
JOBS = sum(EVENTS.values()) + sum(CRON.values())
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")


def make_bench(sites_path: Path, sites: int) -> None:
    """Write the folder, and the app beside it."""
    app = sites_path.parent / "clockwork"
    app.mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "tasks.py").write_text("".join(f"def job_{n}():\n    pass\n\n\n" for n in range(JOBS)))
    (app / "hooks.py").write_text(f"scheduler_events = {_events()!r}\n")
    sites_path.mkdir()
    (sites_path / "apps.txt").write_text(f"{app.name}\n")
    # It leads for the whole run, however long the others take in between.
    common = {"bench_id": "benchmarks", "frappe_jobs_scheduler_lock": 3600}
    (sites_path / "common_site_config.json").write_text(json.dumps(common))
    for number in range(sites):
        site = sites_path / f"site{number:04}"
        site.mkdir()
        zone = {"time_zone": ZONES[number % len(ZONES)]}
        (site / "site_config.json").write_text(json.dumps(zone))


def _events() -> dict[str, object]:
    numbers = count()

    def some(many: int) -> list[str]:
        return [f"clockwork.tasks.job_{next(numbers)}" for _ in range(many)]

    events: dict[str, object] = {event: some(many) for event, many in EVENTS.items()}
    return events | {"cron": {expression: some(many) for expression, many in CRON.items()}}
