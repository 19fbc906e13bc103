"""The embedded server of the sites folder."""

from __future__ import annotations

import click

from frappe_jobs import embedded as server
from frappe_jobs.cli.options import Group
from frappe_jobs.sites_folder import find_sites_path
from frappe_jobs.texts.masking import masked


@click.group(cls=Group)
def embedded() -> None:
    """Start or stop the embedded server.

    Other commands use it with --embedded (or FRAPPE_JOBS_EMBEDDED=1).
    """


@embedded.command()
def start() -> None:
    """Start it unless it runs; it runs until it is stopped."""
    click.echo(f"The embedded server runs: {masked(server.start(find_sites_path()))}")


@embedded.command()
def stop() -> None:
    """Stop it; its data stays for its next start."""
    stopped = server.stop(find_sites_path())
    click.echo("The embedded server is stopped." if stopped else "No embedded server runs here.")


@embedded.command()
def status() -> None:
    """Say whether it runs, and where."""
    url = server.running(find_sites_path())
    click.echo(masked(url) if url else "No embedded server runs here.")
