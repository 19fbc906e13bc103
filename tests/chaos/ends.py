"""How often each job ended, as the ledger says it to those who wait for one."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager

from frappe_jobs import runtime


class Ends(AbstractContextManager["Ends"]):
    """Counts them by message id, while the block runs."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        here = runtime.current()
        self._prefix = f"{here.settings.prefix}ended:"
        self._channel = here.make_ledger().redis.pubsub(ignore_subscribe_messages=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Ends:
        self._channel.psubscribe(f"{self._prefix}*")
        self._thread.start()
        return self

    def _count(self) -> None:
        while not self._over.is_set():
            if said := self._channel.get_message(timeout=0.1):
                self.counted[said["channel"].removeprefix(self._prefix)] += 1

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(5)
        self._channel.close()
