"""The online workers, with the interface of RQ's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq.job import BenchJob
from frappe_jobs.ledger.record import STARTED

#: Seconds within which workers answer.
INSPECT_TIMEOUT = 1.0


class BenchWorker:
    """A worker process, as it answered."""

    def __init__(
        self, name: str, queues: list[str], stats: dict[str, Any], running: list[BenchJob]
    ) -> None:
        self.name, self._queues, self._running = name, queues, running
        self.pid = stats.get("pid")
        self.hostname = name.partition("@")[2]
        self.last_heartbeat = datetime.now(timezone.utc).replace(tzinfo=None)  # as RQ tells it
        self.birth_date = self.last_heartbeat - timedelta(seconds=stats.get("uptime", 0))
        total: dict[str, int] = stats.get("total", {})
        self.successful_job_count = sum(total.values())
        self.failed_job_count = 0
        self.total_working_time = 0.0

    def queue_names(self) -> list[str]:
        return self._queues

    queues = property(queue_names)

    def get_state(self) -> str:
        return "busy" if self._running else "idle"

    state = property(get_state)

    def get_current_job(self) -> BenchJob | None:
        return self._running[0] if self._running else None

    def get_current_job_id(self) -> str | None:
        return self._running[0].id if self._running else None


def workers(queue: Any = None) -> list[BenchWorker]:
    """The workers that serve that queue; without a queue all of the bench."""
    here = runtime()
    control = here.app.control
    served = control.inspect(timeout=INSPECT_TIMEOUT).active_queues() or {}
    known = [*served]  # with the workers' names Celery does not wait longer than needed
    stats = (
        control.inspect(destination=known, timeout=INSPECT_TIMEOUT).stats() or {} if known else {}
    )
    ours = {f"{here.settings.bench_id}:{queue_name}" for queue_name in here.settings.queues}
    wanted = {queue.name} if queue is not None else ours
    jobs = running()
    found = []
    for name, queues in sorted(served.items()):
        names = [entry["name"] for entry in queues if entry["name"] in ours]
        if wanted & {*names}:
            its = [job for job in jobs if (job.worker_name or "").startswith(f"{name}/")]
            found.append(BenchWorker(name, names, stats.get(name, {}), its))
    return found


def running(queues: Iterable[str] = ()) -> list[BenchJob]:
    """The jobs that run now, of all sites."""
    here = runtime()
    found = here.listing.latest(here.host.sites(), [STARTED], [*queues])
    return [BenchJob(record) for record in found]
