"""A worker's sign of life, for health probes on its machine."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery.signals import worker_shutdown
from celery.worker import state

from frappe_jobs.alive.signs import INTERVAL, WORKER, Sign
from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.celery.step import ConsumerStep
from frappe_jobs.celery.stopping import stopping
from frappe_jobs.errors import BrokerError
from frappe_jobs.runtime import Runtime

logger = logging.getLogger(__name__)

#: Seconds between two beats of the loop, and without one after which it counts as standing still.
BEAT, STILL = 1.0, 10.0


class SignOfLife(ConsumerStep):
    """Notes that the consumer's loop goes on; a thread of its own tells it, and what is wrong."""

    _teller: Teller | None = None

    def start(self, consumer: Any) -> None:
        if self._teller is None:
            self._teller = Teller(runtime_of(consumer.app), consumer)
            self._teller.tell("")  # seen from when it says that it is ready
            threading.Thread(target=self._teller.run, daemon=True, name="sign of life").start()
        self._teller.beat()
        consumer.timer.call_repeatedly(BEAT, self._teller.beat)

    def stop(self, consumer: Any) -> None:
        if self._teller:
            self._teller.in_loop = False


class Teller:
    """Writes the sign; also while the loop stands still, or has lost its broker."""

    def __init__(self, runtime: Runtime, consumer: Any) -> None:
        self._ledger = runtime.make_ledger()
        ours = f"{runtime.settings.bench_id}:"
        queues = [queue.name for queue in getattr(consumer.task_consumer, "queues", ())]
        self._sign = Sign(
            runtime.settings.sites_path, WORKER, name=consumer.hostname,
            queues=[name.removeprefix(ours) for name in queues if name.startswith(ours)],
        )  # fmt: skip
        #: A solo pool runs its jobs in the loop itself.
        self._is_solo = type(consumer.pool).__module__.endswith(".solo")
        self._beat = 0.0
        self.in_loop = True
        self._said = ""
        self._leaves = threading.Event()
        worker_shutdown.connect(self._leave, weak=False)

    def beat(self) -> None:
        """The loop goes on."""
        self._beat, self.in_loop = time.monotonic(), True

    def run(self) -> None:
        """Give the sign until the worker ends."""
        while not self._leaves.wait(INTERVAL):
            try:
                self.tell(self._fault())
            except Exception:  # whatever went wrong, the next sign follows
                logger.exception("no sign of life could be given")

    def tell(self, fault: str) -> None:
        """Give the sign, with what is wrong; a file that cannot be written is said once."""
        try:
            self._sign.give(fault)
            self._said = ""
        except OSError as error:
            self._note(error)

    def _fault(self) -> str:
        if stopping.told:  # it finishes its jobs
            return ""
        if not self.in_loop:
            return "it takes no jobs, as its broker is out of reach"
        still = time.monotonic() - self._beat
        if still > STILL and not (self._is_solo and state.active_requests):
            return f"its main loop stands still for {still:.0f} s"
        try:
            with self._ledger.reaching():
                self._ledger.redis.ping()
        except BrokerError as error:
            return str(error)
        return ""

    def _note(self, error: OSError) -> None:
        """Say why, once."""
        said = f"{error.filename}: {error.strerror}"
        if said != self._said:
            self._said = said
            logger.warning("health probes do not see this worker: %s", said)

    def _leave(self, **_: object) -> None:
        self._leaves.set()
        self._sign.leave()
