"""The pages, and the hash of a password for them."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, address_options, load, pass_bench

#: What the extra ``web`` installs.
PACKAGES = ("starlette", "uvicorn", "jinja2", "markupsafe", "anyio")


@click.command()
@address_options(8600)
@pass_bench
def web(bench: Bench, host: str, port: int) -> None:
    """Serve pages that show the bench in a browser.

    Without users in 'frappe_jobs_web' they are read-only, and only this machine reaches them.
    """
    here = runtime.use(bench.settings.sites_path)
    _of_pages("serve").serve(here, host, port, partial(click.echo, err=True))


@click.command("web-password")
@click.password_option(help="Without it you are asked.")
def web_password(password: str) -> None:
    """Print a password's hash, for 'frappe_jobs_web'."""
    if not password.strip():
        raise click.BadParameter("a password must not be empty.")
    click.echo(_of_pages("passwords").hashed(password))


def _of_pages(module: str) -> Any:
    return load(f"frappe_jobs.web.{module}", "web", PACKAGES)
