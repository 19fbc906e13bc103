"""The settings of the bench, at a glance."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import Field
from typing import Any

import click

from frappe_jobs.cli.options import Bench, format_option, pass_bench, show
from frappe_jobs.config import settings_table
from frappe_jobs.errors import ConfigError
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.texts.masking import masked, shown

#: Settings that follow from others unless they are set.
DERIVED: dict[str, Callable[[SettingsInForce], str]] = {
    "celery_broker_url": lambda settings: settings.broker_url,
    "celery_result_backend": lambda settings: settings.result_backend,
    "bench_id": lambda settings: settings.bench_id,
}
#: Settings that --embedded sets, for its own process.
EMBEDDED = ("redis_queue", "celery_broker_url")


@click.command()
@format_option
@pass_bench
def settings(bench: Bench, style: str) -> None:
    """List the settings, and where each comes from.

    The origin is a file, an environment variable, --embedded or "default". Passwords are not shown.
    """
    found, rows = SettingsInForce.of(bench.settings), []
    for item in settings_table():
        key, value = item.metadata["key"], _readable(item, found)
        if style == "table" and isinstance(value, dict):
            value = json.dumps(value)
        origin = found.origins.get(item.name, "default")
        if bench.embedded and key in EMBEDDED:
            origin = "--embedded"
        rows.append({"setting": key, "value": value, "origin": origin})
    show(rows, ("setting", "value", "origin"), style)


def _readable(item: Field[Any], found: SettingsInForce) -> Any:
    """The value in force, as JSON and without a password."""
    key, value = item.metadata["key"], getattr(found, item.name)
    if value is None and key in DERIVED:
        try:
            value = DERIVED[key](found)
        except ConfigError:  # there is no broker yet
            return None
    if shown(key, value) == "***":
        return "***"
    return masked(value) if isinstance(value, str) else value
