"""Commands that run a method: in a worker, or here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from inspect import signature
from json import JSONDecodeError
from typing import Any

import click

from frappe_jobs import api, runtime
from frappe_jobs.cli import completion
from frappe_jobs.cli.moments import moment_given, span_given
from frappe_jobs.cli.options import Bench, known_queues, pass_bench, with_site
from frappe_jobs.rows.values import shown_value
from frappe_jobs.texts.json_text import parse_json

#: Names that a method's arguments cannot have; "async" is the old spelling of is_async.
ENQUEUE_OPTIONS = set(signature(api.enqueue).parameters) - {"kwargs"} | {"async"}


def _keywords(_: click.Context, __: click.Parameter, value: str) -> dict[str, Any]:
    try:
        keywords = parse_json(value)
    except JSONDecodeError as error:
        raise click.BadParameter(f"not JSON: {error}") from None
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    if not isinstance(keywords, dict):
        raise click.BadParameter('must be a JSON object, such as {"x": 1}.')
    if options := sorted(ENQUEUE_OPTIONS & set(keywords)):
        raise click.BadParameter(
            f"{', '.join(options)}: an option of enqueue, which would not reach the method. Wrap "
            "the method in a function of your own that has another name for it."
        )
    return keywords


def _one_queue(context: click.Context, parameter: click.Parameter, value: str) -> str:
    names = known_queues(context, parameter, value)
    if len(names) != 1:
        raise click.BadParameter("one queue, please.")
    return names[0]


keywords_option = click.option(
    "--kwargs", "keywords", default="{}", callback=_keywords, help="The arguments, a JSON object."
)


@click.command()
@click.argument("method", shell_complete=completion.methods)
@keywords_option
@click.option(
    "--queue", default="default", show_default=True, callback=_one_queue,
    shell_complete=completion.queues,
)  # fmt: skip
@click.option("--timeout", type=click.IntRange(1), help="Seconds; default: the queue's.")
@click.option("--at-front", is_flag=True, help="Before the jobs that already wait.")
@click.option("--job-id", help="An id of your own.")
@click.option("--at", callback=moment_given, help="2026-12-01T08:30, by the site's clocks.")
@click.option("--in", "delta", callback=span_given, help="From now: 30m, 2h, 7d.")
@click.option("--expires", callback=span_given, help="Not begun after 30m, 2h, it never runs.")
@click.option("--wait", is_flag=True, help="Wait for its end and print its result.")
@with_site
@pass_bench
def enqueue(
    bench: Bench,
    method: str,
    keywords: dict[str, Any],
    queue: str,
    timeout: int | None,
    at_front: bool,
    job_id: str | None,
    at: datetime | None,
    delta: timedelta | None,
    expires: timedelta | None,
    wait: bool,
) -> None:
    """Have a worker run METHOD.

    METHOD is a dotted path such as shop.tasks.send_invoice. Prints the job's id, or with --wait
    its result; exit status 1 if the job fails.
    """
    if at is not None and delta is not None:
        raise click.UsageError("Say --at or --in.")
    runtime.use(bench.settings.sites_path)
    send: Callable[..., Any] = api.enqueue
    if at is not None:
        send = partial(api.enqueue_at, at)
    elif delta is not None:
        send = partial(api.enqueue_in, delta)
    jobs = []
    for site in bench.chosen_sites():
        with api.site(site):
            job = send(
                method, queue, timeout, at_front=at_front, job_id=job_id, expires=expires,
                **keywords,
            )  # fmt: skip
            jobs.append(job)
    for job in jobs:
        click.echo(shown_value(job.wait()) if wait else job.id)


@click.command()
@click.argument("method", shell_complete=completion.methods)
@keywords_option
@with_site
@pass_bench
def execute(bench: Bench, method: str, keywords: dict[str, Any]) -> None:
    """Run METHOD here and now, and commit.

    METHOD is a dotted path; its result is printed as JSON.
    """
    runtime.use(bench.settings.sites_path)
    for site in bench.chosen_sites():
        with api.site(site):
            click.echo(shown_value(api.enqueue(method, now=True, **keywords)))
