"""A bench's metrics in Prometheus's form: names, labels and buckets."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from frappe_jobs.errors import BrokerError
from frappe_jobs.history.counts import Counts, Times, bound
from frappe_jobs.ledger.counting import CLASSES_TO_DOUBLE
from frappe_jobs.metrics.snapshot import Snapshot, take
from frappe_jobs.runtime import Runtime

__all__ = ["BenchCollector", "page", "text"]

logger = logging.getLogger(__name__)

#: What was counted by queue since Redis was empty.
COUNTED = {
    "enqueued": "Jobs whose records were written.",
    "started": "Starts of attempts.",
    "finished": "Jobs that have finished.",
    "failed": "Jobs that have failed.",
    "cancelled": "Jobs that were cancelled.",
    "retried": "Attempts that failed and are made again.",
    "redelivered": "Messages that came to a worker though their job had been begun, or had ended.",
    "leases_lost": "Runs that left no end: their process died, or gave no sign of life.",
}
TIMES = {
    "waited": "Seconds from when a job was enqueued to its first start.",
    "run": "Seconds of the run that ended a job.",
}
#: The classes whose upper bounds are those of the buckets: 8 ms to 9 h, each twice the one before.
BUCKETS = [CLASSES_TO_DOUBLE * doubled for doubled in range(3, 26)]


class BenchCollector(Collector):
    """Asks Redis at each collection, and keeps nothing."""

    def __init__(self, here: Runtime) -> None:
        self._here = here

    def collect(self) -> Iterator[Metric]:
        """All metrics; where Redis does not answer only ``frappe_jobs_redis_up`` with 0."""
        up = GaugeMetricFamily("frappe_jobs_redis_up", "Whether the bench's Redis answers.")
        try:
            found = take(self._here)
        except BrokerError as error:
            logger.error("no metrics: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _queues(found)
        yield from _scheduler(found)
        yield from _workers(found)
        for name, words in COUNTED.items():
            counter = CounterMetricFamily(f"frappe_jobs_{name}", words, labels=["queue"])
            for queue, counts in _by_queue(self._here, found):
                counter.add_metric([queue], getattr(counts, name))
            yield counter
        for name, words in TIMES.items():
            histogram = HistogramMetricFamily(
                f"frappe_jobs_{name}_seconds", words, labels=["queue"]
            )
            for queue, counts in _by_queue(self._here, found):
                times: Times = getattr(counts, name)
                histogram.add_metric([queue], _buckets(times), times.seconds)
            yield histogram


def page(here: Runtime) -> tuple[bytes, str]:
    """What ``text`` gives, and its type."""
    return text(here), CONTENT_TYPE_LATEST


def text(here: Runtime) -> bytes:
    """The metrics of the bench as Prometheus reads them, of the type CONTENT_TYPE_LATEST.

    Never raises because Redis is away: then ``frappe_jobs_redis_up`` is 0.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Undescribed(here))
    return generate_latest(registry)


class _Undescribed(BenchCollector):
    """Registered without a question to Redis."""

    def describe(self) -> Iterator[Metric]:
        return iter(())


def _by_queue(here: Runtime, found: Snapshot) -> Iterator[tuple[str, Counts]]:
    """The queues that are configured, and nothing that a message could make up."""
    for queue in here.settings.queues:
        yield queue, found.counts.get(queue, Counts({}))


def _buckets(times: Times) -> list[tuple[str, float]]:
    rows = [(repr(round(bound(number), 6)), float(times.under(number))) for number in BUCKETS]
    return [*rows, ("+Inf", float(times.count))]


def _gauge(name: str, words: str, value: float | None) -> GaugeMetricFamily:
    """Without a value it has no sample: no data is not zero."""
    gauge = GaugeMetricFamily(f"frappe_jobs_{name}", words)
    if value is not None:
        gauge.add_metric([], value)
    return gauge


def _queues(found: Snapshot) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("frappe_jobs_waiting", "Jobs that wait.", labels=["queue"])
    delayed = GaugeMetricFamily(
        "frappe_jobs_delayed", "Jobs that wait for their time: for later, or for a retry.",
        labels=["queue"],
    )  # fmt: skip
    limited = GaugeMetricFamily(
        "frappe_jobs_limited", "Jobs for which a limit has no room.", labels=["queue"]
    )
    paused = GaugeMetricFamily(
        "frappe_jobs_paused", "Of the jobs that wait, those that a pause holds back.",
        labels=["queue"],
    )  # fmt: skip
    oldest = GaugeMetricFamily(
        "frappe_jobs_oldest_waiting_seconds", "For how long the oldest job has waited; 0: none.",
        labels=["queue"],
    )  # fmt: skip
    failed = GaugeMetricFamily(
        "frappe_jobs_failed_kept", "Failed jobs whose records are kept.", labels=["queue"]
    )
    for queue, count in found.waiting.items():
        elsewhere = found.elsewhere[queue]
        waiting.add_metric([queue], count)
        delayed.add_metric([queue], elsewhere.for_their_time)
        limited.add_metric([queue], elsewhere.limited)
        paused.add_metric([queue], found.paused[queue])
        oldest.add_metric([queue], found.oldest[queue] or 0)
        failed.add_metric([queue], found.failed_kept[queue])
    yield from (waiting, delayed, limited, paused, oldest, failed)
    yield _gauge(
        "overdue", "Jobs whose time came a minute ago, and that nobody has sent to their queues.",
        found.overdue,
    )  # fmt: skip
    yield _gauge("running", "Jobs that run.", found.running)
    yield _gauge(
        "outbox_transactions", "Transactions with jobs that may still be unsent.",
        found.outbox_notes,
    )  # fmt: skip
    yield _gauge("outbox_sites", "Sites whose outbox has rows.", found.outbox_sites)


def _scheduler(found: Snapshot) -> Iterator[Metric]:
    yield _gauge("scheduler_leads", "Whether a scheduler leads.", int(found.leader is not None))
    leader = GaugeMetricFamily(
        "frappe_jobs_scheduler_leader", "The scheduler that leads.", labels=["leader"]
    )
    if found.leader is not None:
        leader.add_metric([found.leader], 1)
    yield leader
    yield _gauge(
        "scheduler_last_look_seconds", "Since a scheduler last looked at what is due.",
        found.last_look,
    )  # fmt: skip
    yield _gauge(
        "scheduler_lag_seconds", "How long the most overdue scheduled job has been due.",
        found.schedule_lag,
    )  # fmt: skip


def _workers(found: Snapshot) -> Iterator[Metric]:
    yield _gauge("workers", "Workers that run.", len(found.workers))
    processes = GaugeMetricFamily(
        "frappe_jobs_worker_processes", "Processes that run jobs.", labels=["worker"]
    )
    memory = GaugeMetricFamily(
        "frappe_jobs_worker_memory_bytes", "Memory of a worker's processes.", labels=["worker"]
    )
    for worker in found.workers:
        processes.add_metric([worker.name], worker.processes)
        if worker.memory is not None:
            memory.add_metric([worker.name], worker.memory)
    yield from (processes, memory)
