"""What a bench has left in a Redis: all keys of its prefix."""

from __future__ import annotations

import re

from frappe_jobs.ledger.connection import Connected, reachable

#: Keys that one step deletes.
CHUNK = 1000

#: What means something else in Redis's patterns.
SPECIAL = re.compile(r"([\\*?\[\]])")


class Leftovers(Connected):
    """The keys of one bench in the Redis at that URL."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url)
        self._pattern = SPECIAL.sub(r"\\\1", prefix) + "*"

    @reachable
    def delete(self) -> int:
        """Delete them; gives how many there were.  Reads the names of others' keys as well."""
        keys = list(set(self.redis.scan_iter(match=self._pattern, count=CHUNK)))
        for start in range(0, len(keys), CHUNK):
            self.redis.unlink(*keys[start : start + CHUNK])
        return len(keys)
