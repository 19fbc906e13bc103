"""In which order a worker looks into its queues on Redis; on RabbitMQ earlier queues go first.

kombu's own ``round_robin`` is a third order: the queue that gave a job goes to the end.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from kombu.utils.scheduling import priority_cycle


class InTheOrderTheyCame(priority_cycle):
    """The queues in the order in which the worker began to consume them.

    kombu 5.6 gives them as a set, again whenever a queue is added or removed.
    """

    def update(self, it: Collection[str]) -> None:
        kept = [queue for queue in self.items if queue in it]
        self.items[:] = kept + [queue for queue in it if queue not in kept]


class Random(priority_cycle):
    """A new random order at each look."""

    def consume(self, n: int) -> list[str]:
        return random.sample(self.items, min(n, len(self.items)))
