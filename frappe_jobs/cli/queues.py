"""The queues of the bench, at a glance."""

from __future__ import annotations

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, format_option, pass_bench, show
from frappe_jobs.rows.queues import COLUMNS, rows


@click.command()
@format_option
@pass_bench
def queues(bench: Bench, style: str) -> None:
    """List the queues, their workers and waiting jobs."""
    here = runtime.use(bench.settings.sites_path)
    show(rows(here, here.broker.consumers()), COLUMNS, style)
