"""What Redis is told of transactions with rows in an outbox, so that few sites are looked at."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from frappe_jobs.ledger import Ledger

#: Seconds from a note to the first look at its site: as a rule all jobs are sent by then.
FIRST_LOOK = 3.0
#: Seconds at most between two looks; each wait is twice as long as the wait before.
LONGEST = 300.0
#: Seconds for which a note stays if its process does not settle it: a transaction may be about to
#: commit.  Jobs of one that commits later are found where all sites are visited.
FORGOTTEN = 600.0
#: Seconds after which a process says again that a site has rows.
EVERY = 60.0
#: Notes read at once.
LIMIT = 10_000


@dataclass(frozen=True)
class Note:
    """Says that transactions of a thread are about to commit rows of a site's outbox."""

    site: str
    #: Their jobs' queues: a worker of any of these can look.
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
    """A bench's notes, and its sites with rows; all methods raise BrokerUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._key, self._sites = ledger._key("outbox"), ledger._key("outbox", "sites")
        #: When it was last said that a site has rows, by the monotonic clock.
        self._told: dict[str, float] = {}

    def leave(self, notes: Sequence[Note]) -> None:
        """Have their sites looked at, unless they are settled by then."""
        with self._ledger.reaching():
            self._ledger.redis.zadd(self._key, {str(note): note.at + FIRST_LOOK for note in notes})
            now = time.monotonic()
            for note in notes:
                if now - self._told.get(note.site, -inf) > EVERY:  # each costs a round trip
                    self._ledger.redis.zadd(self._sites, {note.site: note.at}, nx=True)
                    self._told[note.site] = now

    def settle(self, notes: Sequence[Note]) -> None:
        """Note that nothing of theirs is left to be sent."""
        if notes:
            with self._ledger.reaching():
                self._ledger.redis.zrem(self._key, *map(str, notes))

    def due(self, now: float) -> list[Note]:
        """The notes whose sites are to be looked at."""
        with self._ledger.reaching():
            texts = self._ledger.redis.zrangebyscore(self._key, "-inf", now, 0, LIMIT)
        return self._read(texts)

    def of(self, site: str, before: float) -> list[Note]:
        """The notes of a site that were left before that time."""
        with self._ledger.reaching():
            texts = self._ledger.redis.zrange(self._key, 0, LIMIT)
        return [note for note in self._read(texts) if note.site == site and note.at < before]

    def put_off(self, notes: Iterable[Note], now: float, *, again_in: float | None = None) -> None:
        """Have their sites looked at later, unless they are settled.

        In ``again_in`` seconds; None: each time after a longer wait.
        """
        scores = {
            str(note): now + (again_in or min(max(FIRST_LOOK, now - note.at), LONGEST))
            for note in notes
        }  # fmt: skip
        with self._ledger.reaching():
            self._ledger.redis.zadd(self._key, scores, xx=True)

    def sites(self, before: float) -> list[str]:
        """The sites with rows from before that time, perhaps only of jobs that were sent."""
        with self._ledger.reaching():
            sites: list[str] = self._ledger.redis.zrangebyscore(self._sites, "-inf", before)
            return sites

    def forget_site(self, site: str, rows_since: float | None = None) -> None:
        """Note that it has no rows, or none from before that time."""
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
            except ValueError:  # somebody else wrote it
                with self._ledger.reaching():
                    self._ledger.redis.zrem(self._key, text)
        return notes
