"""What is wrong with the bench."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, format_option, one_line, pass_bench, with_site
from frappe_jobs.doctor import examine_switch, worst_first
from frappe_jobs.doctor.mending import Mendable
from frappe_jobs.doctor.scan import folder_of, scan
from frappe_jobs.doctor.text import number
from frappe_jobs.errors import ConfigError
from frappe_jobs.rows.findings import findings, parts_of
from frappe_jobs.sites_folder import APPS, app_names, is_frappe_bench, version_of
from frappe_jobs.texts.finding import Finding

COLUMNS = ("level", "what", "cure")
COLOURS = {"error": "red", "warning": "yellow", "ok": "green"}


@click.command()
@click.option("--fix", is_flag=True, help="Mend what can be mended without risk to any job.")
@click.option("--scan", "only_scan", is_flag=True, help="Read the apps' source instead.")
@click.option("--strict", is_flag=True, help="Exit status 1 for a warning, too.")
@format_option
@with_site
@pass_bench
def doctor(bench: Bench, fix: bool, only_scan: bool, strict: bool, style: str) -> None:
    """Say what is wrong, and what cures it.

    Checks the servers, the workers, the queues, the jobs, the scheduler, and all sites or --site.
    The exit status is 1 if an error was found. --fix sends lost jobs again, and brings RedBeat's
    entries in line with the records.

    --scan asks no server. It reads the installed apps' source, runs none of it, and lists the
    enqueue calls whose jobs Celery cannot carry.
    """
    if fix and only_scan:
        raise click.UsageError("--scan only reads: there is nothing for --fix to mend.")
    logging.disable()  # what would be logged is among the findings
    found = _scan(bench) if only_scan else _examine(bench, fix)
    if style == "json":
        rows = [
            {key: getattr(finding, key) for key in COLUMNS}
            | {"mendable": isinstance(finding, Mendable)}
            for finding in found
        ]
        click.echo(json.dumps(rows, indent=1))
    else:
        _print(found)
    levels = {finding.level for finding in found}
    sys.exit(1 if "error" in levels or (strict and levels != {"ok"}) else 0)


def say_all(sites_path: Path) -> bool:
    """Print the findings on a bench that is on Celery; whether none is an error."""
    logging.disable()
    found = findings(runtime.use(sites_path))
    _print(found)
    return all(finding.level != "error" for finding in found)


def say_what_is_left(sites_path: Path) -> bool:
    """Print what is wrong between RQ and Celery on a bench that stays on RQ, if anything is.

    Its cures keep our own commands' name: ``bench worker`` is RQ's there.  Gives whether none of it
    is an error.
    """
    logging.disable()
    try:
        found = examine_switch(parts_of(runtime.use(sites_path)))
    except ConfigError as error:
        found = [Finding("error", str(error))]
    for finding in found:
        click.echo(_line(finding))
    return all(finding.level != "error" for finding in found)


def _examine(bench: Bench, fix: bool) -> Sequence[Finding]:
    try:
        return findings(runtime.use(bench.settings.sites_path), bench.named_sites(), fix=fix)
    except ConfigError as error:  # nothing can be checked before that is mended
        return [Finding("error", str(error))]


def _scan(bench: Bench) -> Sequence[Finding]:
    try:
        on_bench = is_frappe_bench(bench.settings.sites_path)
        beside = None if on_bench else bench.settings.sites_path.parent
        apps = {app: folder_of(app, beside) for app in _apps(bench, on_bench)}
    except ConfigError as error:
        return [Finding("error", str(error))]
    return worst_first(scan(apps, on_bench=on_bench))


def _apps(bench: Bench, on_bench: bool) -> Sequence[str]:
    """The sites' apps; all of the bench's on Frappe, where only a database knows a site's."""
    settings, path = bench.settings, f"{bench.settings.sites_path}/{APPS}"
    sites = bench.named_sites()
    sites = settings.sites.names() if sites is None else sites
    if on_bench or not sites:
        return app_names(path, version_of(path))
    return [*dict.fromkeys(app for site in sites for app in settings.sites.installed_apps(site))]


def _print(found: Sequence[Finding]) -> None:
    """A line for each, in colour on a terminal."""
    for finding in found:
        click.echo(_line(finding))
    counts = Counter(finding.level for finding in found)
    errors, warnings = number(counts["error"], "error"), number(counts["warning"], "warning")
    click.echo(f"{errors}, {warnings}, {counts['ok']} ok.")


def _line(finding: Finding) -> str:
    level = click.style(f"{finding.level:<7}", fg=COLOURS[finding.level])
    cure = click.style(one_line(f"  -> {finding.cure}"), bold=True) if finding.cure else ""
    return f"{level}  {one_line(finding.what)}{cure}"
