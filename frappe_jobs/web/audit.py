"""Who did what: each action of the pages, kept in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.texts.error_text import bounded, safe

#: Deeds that are kept, about; the oldest go first.
KEPT = 5000
#: What an entry says until its outcome is known: and if its process was killed, for ever.
BEGUN = "begun"
#: Characters of a value.
LONGEST = 500


@dataclass(frozen=True)
class Deed:
    """An action: who, what, on which site and thing, what came of it, from which address."""

    who: str
    what: str
    site: str
    thing: str
    address: str
    outcome: str = BEGUN
    at: float = 0.0


class Audit(BenchRedis):
    """The audit of one bench."""

    def note(self, deed: Deed) -> str:
        """Gives the entry's id.  Raises BrokerUnavailable."""
        return self._add(asdict(deed) | {"at": repr(time.time())})

    def end(self, entry: str, outcome: str) -> None:
        """Say what came of a deed that was noted before.  Raises BrokerUnavailable."""
        self._add({"of": entry, "outcome": outcome})

    @reachable
    def _add(self, values: Mapping[str, object]) -> str:
        fields = {name: bounded(safe(str(value)), LONGEST) for name, value in values.items()}
        key = self._key("web", "audit")
        return str(self.redis.xadd(key, fields, maxlen=2 * KEPT, approximate=True))

    @reachable
    def latest(self, count: int) -> Iterator[Deed]:
        """The newest first, of so many entries."""
        outcomes: dict[str, str] = {}
        for entry, fields in self.redis.xrevrange(self._key("web", "audit"), count=2 * count):
            if "of" in fields:
                outcomes[fields["of"]] = fields["outcome"]
            elif {*fields} == {*Deed.__dataclass_fields__}:
                outcome = outcomes.pop(entry, fields["outcome"])
                yield Deed(**(fields | {"at": float(fields["at"]), "outcome": outcome}))
