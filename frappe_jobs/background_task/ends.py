"""Ends of tracked jobs that their Background Tasks, in the sites' databases, do not say yet."""

from __future__ import annotations

import json
from collections.abc import Iterable

from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import UNWRITTEN, End


class UnwrittenEnds:
    """Reads such ends, which the ledger notes in the step that ends a job."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def of(self, site: str) -> dict[str, End]:
        """The site's ends, by message id."""
        with self._ledger.reaching():
            found: dict[str, str] = self._ledger.redis.hgetall(self._ledger._key(UNWRITTEN, site))
        return {message_id: End(**json.loads(text)) for message_id, text in found.items()}

    def sites(self, sites: Iterable[str]) -> list[str]:
        """The sites of these that have such ends."""
        asked = list(sites)
        with self._ledger.reaching(), self._ledger.redis.pipeline(transaction=False) as pipe:
            for site in asked:
                pipe.exists(self._ledger._key(UNWRITTEN, site))
            return [site for site, found in zip(asked, pipe.execute(), strict=True) if found]

    def written(self, site: str, message_ids: Iterable[str]) -> None:
        """Note that the Background Tasks say these ends by now."""
        if ids := list(message_ids):
            with self._ledger.reaching():
                self._ledger.redis.hdel(self._ledger._key(UNWRITTEN, site), *ids)
