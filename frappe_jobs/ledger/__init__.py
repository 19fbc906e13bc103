"""What Redis knows of jobs: each message's record, the claim on its job's id, the indexes.

Every change is one script: one round trip, and whole or not at all.  The ledger is always Redis,
also where another broker carries the messages.
"""

from __future__ import annotations

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.ends import Ends
from frappe_jobs.ledger.jobs import Jobs
from frappe_jobs.ledger.kept_aside import KeptAside
from frappe_jobs.ledger.lost import Lost


class Ledger(Jobs, Ends, Lost, KeptAside):
    """The records of one bench."""

    @reachable
    def take_turn(self, what: str, seconds: int) -> bool:
        """True for the first of all processes that asks, then for nobody until they are over."""
        return bool(self.redis.set(self._key("turn", what), "taken", nx=True, ex=seconds))
