"""Who did what: each action of the pages, kept in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.texts.error_text import bounded, safe

#: Entries that are kept; the oldest go first.
KEPT = 5000
#: Characters of a value.
LONGEST = 500


@dataclass(frozen=True)
class Deed:
    """An action: who, what, on which site and thing, what came of it, from which address."""

    who: str
    what: str
    site: str
    thing: str
    outcome: str
    address: str
    at: float = 0.0


class Audit(BenchRedis):
    """The audit of one bench."""

    @reachable
    def note(self, deed: Deed) -> None:
        """Raises BrokerUnavailable."""
        said = asdict(deed) | {"at": repr(time.time())}
        fields = {name: bounded(safe(str(value)), LONGEST) for name, value in said.items()}
        self.redis.xadd(self._key("web", "audit"), fields, maxlen=KEPT, approximate=True)

    @reachable
    def latest(self, count: int) -> Iterator[Deed]:
        """The newest first."""
        found = self.redis.xrevrange(self._key("web", "audit"), count=count)
        return (
            Deed(**(fields | {"at": float(fields["at"])}))
            for _, fields in found
            if {*fields} == {*Deed.__dataclass_fields__}
        )
