"""What the doctor finds of a bench, in the words of that bench's own commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from frappe_jobs.celery.servers import results_of
from frappe_jobs.doctor import examine
from frappe_jobs.doctor.checkup import Parts
from frappe_jobs.frappe_bench import way_in
from frappe_jobs.runtime import Runtime, load
from frappe_jobs.texts.finding import Finding

#: In a cure: the commands that a Frappe bench has as well.
OF_BENCH = re.compile(
    r"frappe-jobs((?: --site \S+)?) "
    r"(worker|schedule|doctor|scheduler|set-maintenance-mode|migrate)\b"
)


def findings(
    here: Runtime, sites: Sequence[str] | None = None, *, fix: bool = False
) -> list[Finding]:
    """The doctor's findings, the worst first; with ``fix`` it mends what is safe to mend."""
    found = examine(parts_of(here), sites, fix=fix)
    if here.is_bench:
        found = [replace(one, cure=OF_BENCH.sub(r"bench\1 \2", one.cure)) for one in found]
    return found


def parts_of(here: Runtime) -> Parts:
    """What a check-up looks at."""
    sites_path = here.settings.sites_path
    return Parts(
        here.in_force, here.host, here.broker, here.ledger, here.timetable, here.sync,
        here.scheduling, here.relay, results=results_of(here.app, here.in_force),
        use_celery=partial(way_in.state, sites_path) if here.is_bench else None,
        way_in_faults=partial(way_in.faults, sites_path),
        alerts=(lambda: load("targets of alerts")(here)) if here.settings.alerts else None,
    )  # fmt: skip
