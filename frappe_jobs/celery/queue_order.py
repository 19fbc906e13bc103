"""Earlier queues first, on Redis: kombu's strategy, also where kombu forgets the order."""

from __future__ import annotations

from collections.abc import Collection

from kombu.utils.scheduling import priority_cycle


class InTheOrderTheyCame(priority_cycle):
    """The queues in the order in which the worker began to consume them.

    kombu 5.6 hands them over as a set, again with each one that joins or leaves.
    """

    def update(self, it: Collection[str]) -> None:
        kept = [queue for queue in self.items if queue in it]
        self.items[:] = kept + [queue for queue in it if queue not in kept]
