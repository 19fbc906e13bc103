"""Messages that cannot be run, kept where people can look at them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis

#: How many of them are kept.
KEPT_ASIDE = 1_000


class KeptAside(BenchRedis):
    """The messages of a bench that cannot be run."""

    @reachable
    def keep_aside(self, *messages: Mapping[str, str]) -> None:
        """Keep these messages; only the last 1,000 stay."""
        now, kept, count = repr(time.time()), self._key("damaged"), self._key("damaged:count")
        with self.redis.pipeline() as pipe:
            pipe.lpush(kept, *(json.dumps({**message, "at": now}) for message in messages))
            pipe.ltrim(kept, 0, KEPT_ASIDE - 1)
            pipe.incrby(count, len(messages))
            for key in (kept, count):
                pipe.expire(key, self._settings.job_failure_ttl)
            pipe.execute()

    @reachable
    def kept_aside(self) -> list[dict[str, str]]:
        """These messages, newest first; ``at`` says since when, in seconds since 1970."""
        return [json.loads(raw) for raw in self.redis.lrange(self._key("damaged"), 0, -1)]

    @reachable
    def count_kept_aside(self) -> int:
        """How many there were in all; counted anew after none came for ``job_failure_ttl``."""
        return int(self.redis.get(self._key("damaged:count")) or 0)
