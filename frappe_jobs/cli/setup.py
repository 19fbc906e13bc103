"""Configuration for process managers and servers, printed or written to a file."""

from __future__ import annotations

from pathlib import Path

import click

from frappe_jobs.cli.options import Bench, pass_bench
from frappe_jobs.deploy.processes import processes
from frappe_jobs.deploy.procfile import procfile as procfile_text
from frappe_jobs.deploy.rights import grants
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.sites_folder import write_text


@click.group()
def setup() -> None:
    """Write a Procfile, or the rights on the servers."""


@setup.command()
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; default: standard output.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before a file is overwritten.")
@pass_bench
def procfile(bench: Bench, output: Path | None, yes: bool) -> None:
    """A Procfile with a worker for each queue."""
    text = procfile_text(processes(bench.settings))
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists() and not yes:
        click.confirm(f"Overwrite {output}?", abort=True)
    write_text(output, text)
    click.echo(f"Written: {output}")


@setup.command()
@pass_bench
def rights(bench: Bench) -> None:
    """The commands that make a user on the servers that may do no more than is needed."""
    for grant in grants(SettingsInForce.of(bench.settings)):
        click.echo(grant)
