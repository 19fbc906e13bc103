"""The pages, and the hash of a password for them."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, pass_bench
from frappe_jobs.errors import ConfigError

#: What the extra installs.
NEEDED = ("starlette", "uvicorn", "jinja2", "markupsafe", "anyio")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8600, show_default=True,
    help="0: one that is free.",
)  # fmt: skip
@pass_bench
def web(bench: Bench, host: str, port: int) -> None:
    """Serve pages that show the bench in a browser.

    Without users in 'frappe_jobs_web' they are read-only, and only this machine reaches them.
    """
    here = runtime.use(bench.settings.sites_path)
    load("serve").serve(here, host, port, partial(click.echo, err=True))


@click.command("web-password")
@click.password_option(help="Without it you are asked.")
def web_password(password: str) -> None:
    """Print a password's hash, for 'frappe_jobs_web'."""
    if not password.strip():
        raise click.BadParameter("a password must not be empty.")
    click.echo(load("passwords").hashed(password))


def load(module: str) -> Any:
    """That module of the pages; raises ConfigError if the extra is not installed."""
    try:
        return import_module(f"frappe_jobs.web.{module}")
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        raise ConfigError(
            f"{error.name} is not installed, and the pages need it: pip install 'frappe_jobs[web]'."
        ) from None
