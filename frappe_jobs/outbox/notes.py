"""What Redis is told of transactions with jobs in an outbox, so that few sites are looked at."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from frappe_jobs.ledger import Ledger

#: Seconds from a note to the first look at its site: as a rule all is sent by then.
PATIENCE = 3.0
#: And at most so many to the next one, each twice as long as the one before.
LONGEST = 300.0
#: So long a note stays unless whoever left it settles it: a transaction of it may be open still.
FORGOTTEN = 3600.0
#: Seconds after which it is said again that a site has rows.
EVERY = 60.0
#: Notes read in one go.
LIMIT = 10_000


@dataclass(frozen=True)
class Note:
    """Transactions of one thread that are about to commit rows of a site's outbox."""

    site: str
    #: Those of their jobs: whoever serves one of them can look.
    queues: tuple[str, ...]
    #: Seconds since 1970.
    at: float
    id: str = field(default_factory=lambda: secrets.token_urlsafe(15))

    def __str__(self) -> str:
        return f"{self.id}/{self.at:.3f}/{'+'.join(self.queues)}/{self.site}"

    @classmethod
    def read(cls, text: str) -> Note:
        """Read what str() wrote; raises ValueError."""
        made, at, queues, site = text.split("/", 3)
        return cls(site, tuple(queues.split("+")), float(at), made)


class Notes:
    """The notes of a bench, each of transactions whose jobs may be unsent; its sites with rows.

    All of it raises BrokerUnavailable.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._key, self._sites = ledger._key("outbox"), ledger._key("outbox", "sites")
        #: When it was last said that a site has rows, by the monotonic clock.
        self._told: dict[str, float] = {}

    def leave(self, notes: Sequence[Note]) -> None:
        """Have their sites looked at, unless they are settled by then."""
        with self._ledger.reaching():
            self._ledger.redis.zadd(self._key, {str(one): one.at + PATIENCE for one in notes})
            now = time.monotonic()
            for one in notes:  # once in a while: each would be a round trip more
                if now - self._told.get(one.site, -inf) > EVERY:
                    self._ledger.redis.zadd(self._sites, {one.site: one.at}, nx=True)
                    self._told[one.site] = now

    def settle(self, notes: Sequence[Note]) -> None:
        """Nothing is left to be sent of them."""
        if notes:
            with self._ledger.reaching():
                self._ledger.redis.zrem(self._key, *map(str, notes))

    def due(self, now: float) -> list[Note]:
        """Those whose sites are to be looked at."""
        with self._ledger.reaching():
            found = self._ledger.redis.zrangebyscore(self._key, "-inf", now, 0, LIMIT)
        return self._read(found)

    def of(self, site: str, before: float) -> list[Note]:
        """Those of a site that were left before that time."""
        with self._ledger.reaching():
            found = self._ledger.redis.zrange(self._key, 0, LIMIT)
        return [one for one in self._read(found) if one.site == site and one.at < before]

    def put_off(self, notes: Iterable[Note], now: float, *, again_in: float | None = None) -> None:
        """Have their sites looked at later, unless they are settled.

        In so many seconds; None: each time later than the time before.
        """
        scores = {
            str(one): now + (again_in or min(max(PATIENCE, now - one.at), LONGEST))
            for one in notes
        }  # fmt: skip
        with self._ledger.reaching():
            self._ledger.redis.zadd(self._key, scores, xx=True)

    def sites(self, before: float) -> list[str]:
        """Those with rows from before that time, which may be of jobs that were sent."""
        with self._ledger.reaching():
            found: list[str] = self._ledger.redis.zrangebyscore(self._sites, "-inf", before)
            return found

    def forget_site(self, site: str, rows_since: float | None = None) -> None:
        """It has no rows any more, or none from before that time."""
        with self._ledger.reaching(), self._ledger.redis.pipeline() as pipe:
            pipe.zrem(self._sites, site)
            if rows_since is not None:
                pipe.zadd(self._sites, {site: rows_since})
            pipe.execute()

    def _read(self, texts: Iterable[str]) -> list[Note]:
        notes = []
        for text in texts:
            try:
                notes.append(Note.read(text))
            except ValueError:  # somebody else's
                with self._ledger.reaching():
                    self._ledger.redis.zrem(self._key, text)
        return notes
