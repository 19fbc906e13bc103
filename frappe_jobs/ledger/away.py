"""Sites whose database cannot be reached: who tries one again, and when."""

from __future__ import annotations

import time

from frappe_jobs.ledger import Ledger

#: Seconds at most between two tries to reach a site's database.
LONGEST_REST = 30
#: Seconds until those who wait for the end of a try look at it again.
LOOK = 2.0
#: Why nobody may try now.
TRIED, AWAY = "tried", "away"
#: Seconds for which a site that could be reached is not asked about again.
TRUST = 1.0
#: Seconds after which nobody knows any more that a site was away.
FORGOTTEN = 3600


class AwaySites:
    """What all workers of a bench know of these sites, so that one job at a time tries a site.

    Its other jobs are put back meanwhile: a try holds its process until connecting is given up,
    and other sites' jobs wait for that process.
    """

    def __init__(self, ledger: Ledger, trial: float) -> None:
        self._ledger, self._trial = ledger, trial  # seconds that a try may take
        self._trusted: dict[str, float] = {}  # until when, by the monotonic clock

    def rest(self, site: str) -> float:
        """Seconds until the next job may try; 0: try now, and nobody else may while it is away.

        Raises BrokerUnavailable.
        """
        if self._is_trusted(site):
            return 0
        self._trusted.pop(site, None)
        away, rest = self._keys(site)
        with self._ledger.reaching():
            if not self._ledger.redis.exists(away):
                self._trusted[site] = time.monotonic() + TRUST
                return 0
            if self._ledger.redis.set(rest, TRIED, nx=True, px=int(self._trial * 1000)):
                return 0
            left = max(float(self._ledger.redis.pttl(rest)) / 1000, 0.1)
            return min(left, LOOK) if self._ledger.redis.get(rest) == TRIED else left

    def note_away(self, site: str) -> float:
        """Note that it could not be reached; gives the seconds until it is tried again."""
        away, rest = self._keys(site)
        self._trusted.pop(site, None)
        with self._ledger.reaching():
            times = int(self._ledger.redis.incr(away))
            self._ledger.redis.expire(away, FORGOTTEN)
            seconds = min(2 ** min(times - 1, 10), LONGEST_REST)
            self._ledger.redis.set(rest, AWAY, px=seconds * 1000)
        return float(seconds)

    def note_reached(self, site: str) -> None:
        """Note that its database answers again."""
        if self._is_trusted(site):
            return
        with self._ledger.reaching():
            self._ledger.redis.delete(*self._keys(site))

    def note_untried(self, site: str) -> None:
        """Note that the job that was to try did not, so that another job may."""
        if site not in self._trusted:
            with self._ledger.reaching():
                self._ledger.redis.delete(self._keys(site)[1])

    def _is_trusted(self, site: str) -> bool:
        return self._trusted.get(site, 0) > time.monotonic()

    def _keys(self, site: str) -> tuple[str, str]:
        return self._ledger._key("away", site), self._ledger._key("rest", site)
