"""Configuration for process managers and servers, printed or written to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from frappe_jobs.cli.options import Bench, Group, pass_bench
from frappe_jobs.deploy.place import Place, here, of_this_shell
from frappe_jobs.deploy.processes import processes
from frappe_jobs.deploy.procfile import procfile as procfile_text
from frappe_jobs.deploy.rights import grants
from frappe_jobs.deploy.supervisor import supervisor as supervisor_text
from frappe_jobs.deploy.systemd import systemd as systemd_units
from frappe_jobs.errors import ConfigError
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.sites_folder import is_frappe_bench, write_text

Command = TypeVar("Command", bound=Callable[..., Any])

BENCHS_OWN = (
    "This is a Frappe bench: what 'bench setup {0}' writes starts our workers and our scheduler as "
    "it is, so there is nothing to write here. See docs/frappe.md."
)

output_file = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; default: standard output.",
)  # fmt: skip
yes_option = click.option("--yes", is_flag=True, help="Do not ask before a file is overwritten.")
user_option = click.option("--user", help="The user that they run as; default: you.")


@click.group(cls=Group)
def setup() -> None:
    """Write a process manager's file, or servers' rights."""


@setup.command()
@output_file
@yes_option
@pass_bench
def procfile(bench: Bench, output: Path | None, yes: bool) -> None:
    """A Procfile with a worker for each queue."""
    _leave_benches_alone(bench, "procfile")
    _write(procfile_text(processes(bench.settings)), output, yes)


@setup.command()
@output_file
@user_option
@yes_option
@pass_bench
def supervisor(bench: Bench, output: Path | None, user: str | None, yes: bool) -> None:
    """A file for supervisord, with a program for each queue."""
    place = _place(bench, user, "supervisor")
    _write(supervisor_text(processes(bench.settings), place), output, yes)
    if not place.logs.is_dir():  # without it supervisord refuses its whole configuration
        click.echo(f"Make the folder {place.logs}: supervisord needs it for the logs.", err=True)


@setup.command()
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder to write to; default: standard output.",
)  # fmt: skip
@user_option
@yes_option
@pass_bench
def systemd(bench: Bench, output: Path | None, user: str | None, yes: bool) -> None:
    """Units for systemd: a service for each queue, and a target for all."""
    place = _place(bench, user, "systemd")
    for name, text in systemd_units(processes(bench.settings), place).items():
        if output is None:
            click.echo(f"# {name}\n{text}")
        else:
            _write(text, output / name, yes)


@setup.command()
@pass_bench
def rights(bench: Bench) -> None:
    """The commands that make a user on the servers that may do no more than is needed."""
    for grant in grants(SettingsInForce.of(bench.settings)):
        click.echo(grant)


def _place(bench: Bench, user: str | None, what: str) -> Place:
    """Where its processes run; a line on what they will not find there."""
    _leave_benches_alone(bench, what)
    place = here(bench.settings, user)
    if variables := of_this_shell(bench.settings):
        click.echo(
            f"Set in this shell alone, so not in the file: {', '.join(variables)}. "
            "Put them into common_site_config.json.", err=True,
        )  # fmt: skip
    return place


def _leave_benches_alone(bench: Bench, what: str) -> None:
    if is_frappe_bench(bench.settings.sites_path):
        raise ConfigError(BENCHS_OWN.format(what))


def _write(text: str, output: Path | None, yes: bool) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists() and not yes:
        click.confirm(f"Overwrite {output}?", abort=True)
    write_text(output, text)
    click.echo(f"Written: {output}")
