"""The options that say how a worker or a scheduler writes its log."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from frappe_jobs.celery.log import Log
from frappe_jobs.celery.log_file import find_log_file
from frappe_jobs.config import LOG_FORMATS, LOG_LEVELS, Settings

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--quiet", is_flag=True, help="Say only what is wrong: --log-level warning."),
    click.option(
        "--log-level", type=click.Choice(LOG_LEVELS, case_sensitive=False),
        help="The least that is logged; default: the setting frappe_jobs_log_level.",
    ),
    click.option(
        "--log-format", type=click.Choice(LOG_FORMATS),
        help="Lines for people, or an object on each; default: the setting frappe_jobs_log_format.",
    ),
    click.option(
        "--log-file", metavar="FILE",
        help="Where to log; a bare name lies in the bench's logs folder. Default: the setting "
        "frappe_jobs_log_file, else standard error.",
    ),
)  # fmt: skip


def log_options(command: Command) -> Command:
    """Give the command these options, and their meaning as its argument ``log``."""

    @functools.wraps(command)
    def with_log(
        *arguments: Any, quiet: bool, log_level: str | None, log_format: str | None,
        log_file: str | None, **options: Any,
    ) -> Any:  # fmt: skip
        settings = click.get_current_context().obj.settings
        level = log_level or ("warning" if quiet else None)
        log = log_of(settings, level, log_format, log_file)
        return command(*arguments, log=log, **options)

    for option in reversed(OPTIONS):
        with_log = option(with_log)
    return with_log  # type: ignore[return-value]


def log_of(settings: Settings, level: str | None, style: str | None, file: str | None) -> Log:
    """As asked, else as the settings say; raises ConfigError for a file that cannot be written."""
    file = file or settings.log_file
    return Log(
        logging.getLevelName((level or settings.log_level).upper()),
        style or settings.log_format,
        find_log_file(file, settings.sites_path.parent) if file else None,
    )
