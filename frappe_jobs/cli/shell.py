"""A Python prompt with a site open and the API in it."""

from __future__ import annotations

import code
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

import frappe_jobs
from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, pass_bench, with_site


@click.command()
@click.option("--user", help="For whom the site is open; default: Administrator.")
@click.option("-c", "--command", metavar="CODE", help="Run this code instead, and end.")
@click.option("--plain", is_flag=True, help="Python's own prompt, also where IPython is installed.")
@with_site
@pass_bench
def shell(bench: Bench, user: str | None, command: str | None, plain: bool) -> None:
    """Open a Python prompt on the site.

    In IPython where that is installed. The names of the API are there, and all of it as frappe.
    What you do not commit (frappe.db.commit()) is rolled back at the end.
    """
    runtime.use(bench.settings.sites_path)
    names = {name: getattr(frappe_jobs, name) for name in frappe_jobs.__all__}
    names["frappe"] = frappe_jobs
    site, *more = bench.chosen_sites()
    if more:
        raise click.UsageError("A prompt is open on one site: name it with --site.")
    with frappe_jobs.site(site, user=user) as session:
        said = f"{site}, as {session.user}. What you do not commit is rolled back at the end."
        try:
            if command is not None:
                exec(compile(command, "<command>", "exec"), names)
            elif not plain and find_spec("IPython"):
                _ipython(names, said)
            else:
                _python(names, said)
        finally:
            session.rollback()


def _ipython(names: dict[str, Any], said: str) -> None:
    settings = import_module("traitlets.config").Config()
    settings.TerminalInteractiveShell.banner2 = f"\n{said}\n"
    import_module("IPython").start_ipython(argv=[], user_ns=names, config=settings)


def _python(names: dict[str, Any], said: str) -> None:
    if sys.stdin.isatty() and find_spec("readline"):
        readline, complete = import_module("readline"), import_module("rlcompleter")
        readline.set_completer(complete.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    prompt = code.InteractiveConsole({"__name__": "__console__", **names})
    before = sys.excepthook
    try:
        prompt.interact(banner=said, exitmsg="")
    except SystemExit:  # exit(), before Python 3.13
        pass
    finally:
        sys.excepthook = before
