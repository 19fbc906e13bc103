"""The worker."""

from __future__ import annotations

import click

from frappe_jobs import runtime
from frappe_jobs.celery.worker import run_worker
from frappe_jobs.cli.options import Bench, known_queues, pass_bench


@click.command()
@click.option(
    "--queue", callback=known_queues,
    help="The queues to serve, earlier ones first, with commas; default: all.",
)  # fmt: skip
@click.option(
    "--concurrency", type=click.IntRange(1), default=1, show_default=True,
    help="How many jobs at once, each in a process of its own.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Say only what is wrong.")
@click.option(
    "--pool", type=click.Choice(["prefork", "threads", "gevent", "solo"]), default="prefork",
    show_default=True, help="Celery's; only prefork can enforce timeouts.",
)  # fmt: skip
@pass_bench
def worker(bench: Bench, queue: list[str], concurrency: int, quiet: bool, pool: str) -> None:
    """Run the jobs of these queues.

    One job at a time unless --concurrency says more. Prints "ready" on standard error once it
    takes jobs. SIGTERM lets what runs finish.
    """
    here = runtime.use(bench.settings.sites_path)
    run_worker(
        here.app, here.celery_settings, queue or list(bench.settings.queues),
        concurrency=concurrency, quiet=quiet, pool=pool,
    )  # fmt: skip
