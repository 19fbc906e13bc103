"""The metrics of the bench, for Prometheus."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, pass_bench
from frappe_jobs.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9540, show_default=True,
    help="0: one that is free.",
)  # fmt: skip
@pass_bench
def metrics(bench: Bench, host: str, port: int) -> None:
    """Serve metrics for Prometheus.

    Only this machine reaches them, unless --host names another address: whoever reaches that one
    sees the names of queues and workers, and how busy they are.
    """
    say = partial(click.echo, err=True)
    try:
        serving = import_module("frappe_jobs.metrics.serve")
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise ConfigError(
            "prometheus_client is not installed, and the metrics need it: pip install "
            "'frappe_jobs[metrics]'."
        ) from None
    here = runtime.use(bench.settings.sites_path)
    if not here.settings.keeps_history:
        say("Nothing is counted here: set 'frappe_jobs_metrics' to true in "
            "common_site_config.json, and start the workers anew. Until then there are only the "
            "figures of this moment.")  # fmt: skip
    if host in LOOPBACK:
        say("Only this machine reaches the metrics; --host names another address.")
    serving.serve(here, host, port, say)
