"""frappe_jobs' schedule: made by migrate, kept by its scheduler."""

from __future__ import annotations

import time
from itertools import islice

from billiard import active_children

from frappe_jobs import runtime
from frappe_jobs.celery.beat import BenchScheduler

here = runtime.current()
sites = here.settings.sites.names()
to_migrate = iter(sites)
scheduler = BenchScheduler(here.app)


def migrate(count: int) -> None:
    """So many sites more, as the command does it."""
    for site in islice(to_migrate, count):
        of_site = here.sync.of(site)
        plan = of_site.plan()
        if plan.refused:
            raise RuntimeError(f"{site}: {plan.refused[0].what}")
        of_site.apply(plan)


def lead(_: int) -> None:
    """Have the scheduler lead, and wait for the comparison that it begins with."""
    scheduler.tick()
    if here.timetable.leader() != scheduler.token:
        raise RuntimeError("The scheduler does not lead.")
    for comparison in active_children():
        comparison.join()


def put_off(seconds: int) -> None:
    """Have all entries be due so many seconds from now."""
    at = time.time() + seconds
    for site in sites:
        ticket = here.timetable.ticket(site)
        entries = [entry for entry, _ in filter(None, here.timetable.of_site(site).values())]
        here.timetable.replace(site, ticket, [], dict.fromkeys(entries, at))


def tick(count: int) -> None:
    for _ in range(count):
        scheduler.tick()
