"""The queues of the bench, at a glance."""

from __future__ import annotations

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, format_option, iso_time, pass_bench, show


@click.command()
@format_option
@pass_bench
def queues(bench: Bench, style: str) -> None:
    """List the queues, their workers and waiting jobs."""
    here = runtime.use(bench.settings.sites_path)
    consumers = here.broker.consumers()
    rows = [
        {
            "name": queue.name,
            "timeout": queue.timeout,
            "workers": consumers[queue.name],
            "depth": here.broker.depth(queue.name),
            "oldest": iso_time(here.ledger.oldest(queue.name)),
        }
        for queue in bench.settings.queues.values()
    ]
    show(rows, ("name", "timeout", "workers", "depth", "oldest"), style)
