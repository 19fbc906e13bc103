"""Which jobs a command is about: those of the ids that it was given."""

from __future__ import annotations

from collections.abc import Sequence

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench
from frappe_jobs.errors import JobNotFound
from frappe_jobs.job import Job
from frappe_jobs.ledger.record import Record


def find_records(bench: Bench, ids: Sequence[str]) -> list[Record]:
    """The records of these ids on the chosen sites; raises JobNotFound if one is on no site."""
    listing = runtime.use(bench.settings.sites_path).listing
    records: list[Record] = []
    sites = bench.chosen_sites()
    for name in ids:
        found = [record for site in sites if (record := listing.find(site, name))]
        if not found:
            raise JobNotFound(f"No job {name!r} is known on {', '.join(sites)}.")
        records += found
    return records


def find_jobs(bench: Bench, ids: Sequence[str]) -> list[Job]:
    """The jobs of these ids on the chosen sites; raises JobNotFound if one is on no site."""
    return [runtime.current().jobs.of(record) for record in find_records(bench, ids)]
