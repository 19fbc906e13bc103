"""What has happened to jobs: numbers and times."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, one_line, pass_bench, table, with_site
from frappe_jobs.errors import ConfigError
from frappe_jobs.history.chunk import OTHERS
from frappe_jobs.history.counts import Counts, Times
from frappe_jobs.history.keys import HOURS
from frappe_jobs.history.reading import BY, Series
from frappe_jobs.rows.values import iso_time

UNITS = {"m": 60, "h": 3600, "d": 24 * 3600}
NUMBERS = ("enqueued", "started", "finished", "failed", "retried", "cancelled")
TIMES, QUANTILES = ("waited", "run"), {"p50": 0.5, "p95": 0.95, "p99": 0.99}
COLUMNS = (*NUMBERS, *(f"{times}_{name}" for times in TIMES for name in QUANTILES))
#: Lines of time where one name is asked for, and lines of names where all are.
PLACES, LINES = 24, 40


def span(context: click.Context, _: click.Parameter, value: str) -> int:
    """Seconds; a usage error if it is no span, or longer than the history."""
    match = re.fullmatch(r"([1-9]\d{0,5})([mhd])", value)
    if match is None or (seconds := int(match[1]) * UNITS[match[2]]) > HOURS.kept:
        raise click.BadParameter(
            f"a number with its unit, such as 30m, 6h or 7d, up to 30d; not {value!r}."
        )
    return seconds


@click.command()
@click.option("--since", "seconds", default="1h", show_default=True, callback=span,
              metavar="30m|6h|7d", help="The time to look back on.")  # fmt: skip
@click.option("--by", type=click.Choice(BY), default="queue", show_default=True,
              help="A line for each.")  # fmt: skip
@click.option("--queue", metavar="NAME", help="This queue, over time.")
@click.option("--method", metavar="PATH", help="This method, over time.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: all names and places.")
@with_site
@pass_bench
def stats(
    bench: Bench, seconds: int, by: str, queue: str | None, method: str | None, as_json: bool
) -> None:
    """Say how many jobs ran, failed, and how long.

    Times are in seconds, within 10 %. "-" is no data: nothing was recorded then, or nothing ran.
    """
    site = None if bench.site == "all" else bench.site
    asked = {"queue": queue, "site": site, "method": method}
    named = {kind: name for kind, name in asked.items() if name is not None}
    if len(named) > 1:
        raise click.UsageError(f"One of {', '.join(f'--{kind}' for kind in named)}, not several.")
    here = runtime.use(bench.settings.sites_path)
    by, name = next(iter(named.items()), (by, None))
    step = _step(seconds) if name is not None and not as_json else None
    series = here.history.series(seconds, by, names=None if name is None else [name], step=step)
    if not any(series.known) and not here.settings.keeps_history:
        raise ConfigError(
            "No history is recorded here: 'frappe_jobs_history' is not set. Set it to true in "
            "common_site_config.json, and start the workers anew."
        )
    if as_json:
        click.echo(json.dumps(_as_json(series, by, name), indent=1))
    elif name is None:
        _show_names(series, by)
    else:
        _show_places(series, name)


def _step(seconds: int) -> int:
    """Of a minute or more, so that there are not too many lines."""
    return next(
        (step for step in (60, 300, 900, 3600, 6 * 3600) if seconds <= step * PLACES), 24 * 3600
    )


def _show_names(series: Series, by: str) -> None:
    rows = [(name, series.total(name)) for name in series.rows]
    shown = [[_shown_name(name), *_cells(counts)] for name, counts in rows[:LINES]]
    if not shown:
        click.echo("Nothing has happened." if any(series.known) else "No data.")
        return
    click.echo(table(shown, (by, *_headings())))
    if len(rows) > LINES:
        click.echo(f"and {len(rows) - LINES} more, less busy: --json lists all.")


def _show_places(series: Series, name: str) -> None:
    rows = [
        [iso_time(start) or "", *_cells(counts)]
        for start, counts in zip(series.starts, series.row(name), strict=True)
    ]
    click.echo(table([*rows, ["in all", *_cells(series.total(name))]], ("from", *_headings())))


def _shown_name(name: str) -> str:
    return "(others)" if name == OTHERS else one_line(name)


def _headings() -> Sequence[str]:
    return [column.replace("_", " ") for column in COLUMNS]


def _cells(counts: Counts | None) -> list[str]:
    return [_text(value) for value in _values(counts).values()]


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        str(value) if isinstance(value, int) else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    )


def _values(counts: Counts | None) -> Mapping[str, Any]:
    """By column; None for no data."""
    if counts is None:
        return dict.fromkeys(COLUMNS)
    values: dict[str, Any] = {name: getattr(counts, name) for name in NUMBERS}
    for name in TIMES:
        times: Times = getattr(counts, name)
        for quantile, part in QUANTILES.items():
            values[f"{name}_{quantile}"] = times.quantile(part)
    return values


def _as_json(series: Series, by: str, name: str | None) -> Mapping[str, Any]:
    names = series.rows if name is None else [name]
    return {
        "by": by,
        "step": series.step,
        "starts": [iso_time(start) for start in series.starts],
        "known": series.known,
        "rows": [
            {
                "name": one,
                "total": _values(series.total(one)),
                "places": [_values(place) if place else None for place in series.row(one)],
            }
            for one in names
        ],
    }
