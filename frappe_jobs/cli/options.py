"""What several commands share: the bench they work on, its sites, an extra, tables and JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import click

from frappe_jobs import embedded
from frappe_jobs.cli import completion
from frappe_jobs.config import Settings, load_settings, variable
from frappe_jobs.errors import did_you_mean, needing
from frappe_jobs.sites_folder import find_sites_path


@dataclass
class Bench:
    """The sites folder of this command, and the site it was given."""

    site: str | None
    embedded: bool

    @cached_property
    def settings(self) -> Settings:
        """Raises ConfigError; starts the embedded server if it was asked for."""
        path = find_sites_path()
        if self.embedded:
            for key in ("redis_queue", "celery_broker_url", "redbeat_redis_url"):
                os.environ.pop(variable(key), None)
            # For this process and its children; the configuration files stay as they are.
            os.environ[variable("redis_queue")] = os.environ[variable("celery_broker_url")] = (
                embedded.start(path)
            )
        return load_settings(path)

    def chosen_sites(self) -> list[str]:
        """``--site``, else FRAPPE_SITE, else ``default_site``; a usage error if none is named."""
        named = self.site or os.environ.get("FRAPPE_SITE") or self.settings.default_site
        if named is None:
            raise click.UsageError(
                "Which site? Name it with --site (or --site all), FRAPPE_SITE or 'default_site'."
            )
        return self._sites(named)

    def named_sites(self) -> list[str] | None:
        """``--site``; None means all sites, also if it is not given."""
        return None if self.site in (None, "all") else self._sites(str(self.site))

    def _sites(self, named: str) -> list[str]:
        if named == "all":
            return self.settings.sites.names()
        if not self.settings.sites.has(named):
            known = ", ".join(self.settings.sites.names()) or "none"
            meant = did_you_mean(named, self.settings.sites.names())
            raise click.UsageError(f"Site {named!r} does not exist; sites here: {known}.{meant}")
        return [named]


class Group(click.Group):
    """A group that says which of its commands may have been meant, on every version of click."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        is_known = self.get_command(context, name) or context.resilient_parsing
        if not is_known and not name.startswith("-"):
            meant = did_you_mean(name, self.list_commands(context))
            context.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(context, args)


pass_bench = click.make_pass_decorator(Bench)


def _take_site(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """``--site`` after the command's name means the same as before it."""
    if value:
        completion.note_site(context, value)
        if isinstance(context.obj, Bench):
            context.obj.site = value
    return value


site_option = partial(
    click.option, "--site", metavar="NAME|all", callback=_take_site,
    shell_complete=completion.sites, help="The site to work on, or all.",
)  # fmt: skip
#: Lets ``--site`` stand after a command's name as well.
with_site = site_option(expose_value=False)

format_option = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)


def address_options(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command that serves something ``--host`` and ``--port``, with that port by default."""
    host_option = click.option(
        "--host", default="127.0.0.1", show_default=True, help="The address to listen at."
    )
    port_option = click.option(
        "--port", type=click.IntRange(0, 65535), default=port, show_default=True,
        help="0: one that is free.",
    )  # fmt: skip
    return lambda command: host_option(port_option(command))


def load(module: str, extra: str, packages: Collection[str]) -> Any:
    """That module, which needs what the extra installs: these packages.

    Raises ConfigError if one of them is not installed.
    """
    with needing(extra, packages):
        return import_module(module)


def known_queues(context: click.Context, _: click.Parameter, value: str | None) -> list[str]:
    """The queues in a comma-separated list; a usage error if a queue does not exist."""
    known = context.obj.settings.queues
    names = [name.strip() for name in (value or "").split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"there is no queue {name!r}; known: {', '.join(known)}.{did_you_mean(name, known)}"
            )
    return names


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar for people, told how many of how many are done; None for scripts."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=True) as bar:

        def tell(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield tell


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], style: str) -> None:
    """Print a listing: a table for people, or an array of objects for scripts."""
    if style == "json":
        click.echo(json.dumps([{name: row[name] for name in columns} for row in rows], indent=1))
        return
    click.echo(
        table(
            [
                [one_line(row[name]) if row[name] is not None else "-" for name in columns]
                for row in rows
            ],
            columns,
        )
    )


def one_line(value: object) -> str:
    """Its first line, without control characters, which would steer a terminal."""
    first, *_ = str(value).splitlines() or [""]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in first)


def table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """Columns of text under their names."""
    lines = [[name.upper() for name in columns], *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
