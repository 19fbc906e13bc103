"""What is limited: by which rule, and who runs and waits."""

from __future__ import annotations

import sys

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, format_option, pass_bench, show
from frappe_jobs.limits.declared import declared
from frappe_jobs.rows.limits import COLUMNS, rows


@click.command()
@format_option
@pass_bench
def limits(bench: Bench, style: str) -> None:
    """List the limits, and put a change in force.

    What hooks and the configuration declare holds from now on; workers read it every half a minute.
    A wrong one is said, with exit status 1, and the others hold.
    """
    here = runtime.use(bench.settings.sites_path)
    found = declared(here.settings, checks_methods=True)
    here.ledger.set_limits(found.rules)
    show(rows(here.ledger), COLUMNS, style)
    for text in found.wrong:
        click.secho(f"Error: {text}", fg="red", err=True)
    if found.wrong:
        sys.exit(1)
