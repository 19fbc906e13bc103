"""The metrics of the bench, for Prometheus."""

from __future__ import annotations

from functools import partial

import click

from frappe_jobs import runtime
from frappe_jobs.cli.options import Bench, address_options, load, pass_bench

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@address_options(9540)
@pass_bench
def metrics(bench: Bench, host: str, port: int) -> None:
    """Serve metrics for Prometheus.

    Only this machine reaches them, unless --host names another address: whoever reaches that one
    sees the names of queues and workers, and how busy they are.
    """
    say = partial(click.echo, err=True)
    serving = load("frappe_jobs.metrics.serve", "metrics", ["prometheus_client"])
    here = runtime.use(bench.settings.sites_path)
    if not here.settings.keeps_history:
        say("Nothing is counted here: set 'frappe_jobs_metrics' to true in "
            "common_site_config.json, and start the workers anew. Until then there are only the "
            "figures of this moment.")  # fmt: skip
    if host in LOOPBACK:
        say("Only this machine reaches the metrics; --host names another address.")
    serving.serve(here, host, port, say)
