"""What Redis knows of jobs: each message's record, the claim on its job's id, the indexes.

Every change is one script: one round trip, and whole or not at all.  The ledger is always Redis,
also where another broker carries the messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.delayed import Delayed
from frappe_jobs.ledger.ends import Ends
from frappe_jobs.ledger.kept_aside import KeptAside
from frappe_jobs.ledger.limits import Limits
from frappe_jobs.ledger.lost import Lost
from frappe_jobs.ledger.pauses import Pauses


class Ledger(Delayed, Ends, Lost, KeptAside, Pauses, Limits):
    """The records of one bench."""

    @reachable
    def take_turn(self, what: str, seconds: int) -> bool:
        """True for the first of all processes that asks, then for nobody until they are over."""
        return bool(self.redis.set(self._key("turn", what), "taken", nx=True, ex=seconds))

    @reachable
    def skip_due(self, due: str, seconds: int) -> bool:
        """Have nothing sent for that due time of a scheduled job, as if it had been queued.

        For so many seconds; False if it has been queued, or is skipped already.
        """
        return bool(self.redis.set(self._key("due", due), "skipped", nx=True, ex=seconds))

    @reachable
    def are_skipped(self, dues: Sequence[str]) -> list[bool]:
        """Which of these due times are skipped."""
        keys = [self._key("due", due) for due in dues]
        return [found == "skipped" for found in self.redis.mget(keys)] if keys else []
