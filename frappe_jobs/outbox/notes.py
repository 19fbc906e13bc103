"""What Redis is told of transactions with jobs in an outbox, so that few sites are looked at."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from frappe_jobs.ledger import Ledger

#: Seconds from a note to the first look at its site: as a rule all is sent by then.
PATIENCE = 3.0
#: And at most so many to the next one, each twice as long as the one before.
LONGEST = 300.0
#: So long a note stays of which no row was ever found: its transaction may be open still.
FORGOTTEN = 3600.0
#: Seconds for which it is known that a transaction's jobs were sent, though their rows are there.
SETTLED_TTL = 31 * 24 * 3600
#: Notes read in one go.
LIMIT = 10_000


@dataclass(frozen=True)
class Note:
    """A transaction that is about to commit rows of a site's outbox."""

    site: str
    #: Those of its jobs: whoever serves one of them can look.
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
    """The notes of a bench: those of transactions whose jobs may be unsent, and of the others."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._key = ledger._key("outbox")

    def leave(self, notes: Iterable[Note]) -> None:
        """Have the sites looked at if that is not settled soon.  Raises BrokerUnavailable."""
        with self._ledger.reaching():
            scores = {str(one): one.at + PATIENCE for one in notes}
            self._ledger.redis.zadd(self._key, scores)

    def settle(self, notes: Sequence[Note]) -> None:
        """Note that nothing is left to be sent of these.  Raises BrokerUnavailable."""
        by_site: dict[str, dict[str, float]] = {}
        for one in notes:
            by_site.setdefault(one.site, {})[one.id] = one.at
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            for site, ids in by_site.items():
                pipe.zadd(self._settled(site), ids)
                pipe.expire(self._settled(site), SETTLED_TTL)
            pipe.zrem(self._key, *map(str, notes))
            pipe.execute()

    def due(self, now: float) -> list[Note]:
        """Those whose sites are to be looked at.  Raises BrokerUnavailable."""
        with self._ledger.reaching():
            found = self._ledger.redis.zrangebyscore(self._key, "-inf", now, 0, LIMIT)
        return self._read(found)

    def of(self, site: str, before: float) -> list[Note]:
        """Those of a site that were left before that time.  Raises BrokerUnavailable."""
        with self._ledger.reaching():
            found = self._ledger.redis.zrange(self._key, 0, LIMIT)
        return [one for one in self._read(found) if one.site == site and one.at < before]

    def put_off(self, notes: Iterable[Note], now: float, *, again_in: float | None = None) -> None:
        """Have their sites looked at later, unless they are settled.  Raises BrokerUnavailable.

        In so many seconds; None: each time later than the time before.
        """
        scores = {
            str(one): now + (again_in or min(max(PATIENCE, now - one.at), LONGEST))
            for one in notes
        }  # fmt: skip
        with self._ledger.reaching():
            self._ledger.redis.zadd(self._key, scores, xx=True)

    def forget(self, notes: Sequence[Note]) -> None:
        """No site is looked at for their sake.  Raises BrokerUnavailable."""
        if notes:
            with self._ledger.reaching():
                self._ledger.redis.zrem(self._key, *map(str, notes))

    # --- transactions whose jobs are sent, while their rows are there

    def settled(self, site: str, before: float) -> list[str]:
        """The ids of those of the site, of notes from before that time; raises BrokerUnavailable.

        Of very many only the oldest.
        """
        with self._ledger.reaching():
            key = self._settled(site)
            found: list[str] = self._ledger.redis.zrangebyscore(key, "-inf", before, 0, LIMIT)
            return found

    def are_settled(self, site: str, ids: Sequence[str]) -> set[str]:
        """Those of these.  Raises BrokerUnavailable."""
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.zscore(self._settled(site), one)
            return {one for one, at in zip(ids, pipe.execute(), strict=True) if at is not None}

    def forget_settled(self, site: str, ids: Sequence[str]) -> None:
        """Their rows are gone.  Raises BrokerUnavailable."""
        if ids:
            with self._ledger.reaching():
                self._ledger.redis.zrem(self._settled(site), *ids)

    def with_settled(self, sites: Sequence[str], before: float, over: int) -> list[str]:
        """Those of the sites that have some from before that time, or more than so many.

        Raises BrokerUnavailable.
        """
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            for site in sites:
                pipe.zcount(self._settled(site), "-inf", before)
                pipe.zcard(self._settled(site))
            replies = pipe.execute()
        found = zip(sites, replies[::2], replies[1::2], strict=True)
        return [site for site, old, all_of_them in found if old or all_of_them > over]

    def _settled(self, site: str) -> str:
        return self._ledger._key("outbox", site)

    def _read(self, texts: Iterable[str]) -> list[Note]:
        notes = []
        for text in texts:
            try:
                notes.append(Note.read(text))
            except ValueError:  # somebody else's
                with self._ledger.reaching():
                    self._ledger.redis.zrem(self._key, text)
        return notes
