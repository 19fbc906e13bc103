"""What the workers of a bench say of themselves while they run, where anybody looks at it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from frappe_jobs.ledger import Ledger

#: Seconds between two reports of a worker, and for how long a report counts.
PACE, FRESH = 20, 75

TELL = f"""
local seen, said = unpack(KEYS)
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', seen, now, ARGV[1])
redis.call('HSET', said, ARGV[1], ARGV[2])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now - {FRESH})) do
  redis.call('ZREM', seen, gone)
  redis.call('HDEL', said, gone)
end
"""

READ = f"""
local seen, said = unpack(KEYS)
local now = tonumber(redis.call('TIME')[1])
local names = redis.call('ZRANGEBYSCORE', seen, now - {FRESH}, '+inf')
local found = {{}}
for _, name in ipairs(names) do
  table.insert(found, name)
  table.insert(found, redis.call('HGET', said, name) or '')
end
return found
"""


@dataclass(frozen=True)
class Report:
    """A worker's own words."""

    name: str
    #: The bench's queues that it serves.
    queues: Sequence[str]
    #: Those that run jobs.
    processes: int
    #: Bytes, of all its processes; None where that cannot be told.
    memory: int | None


class Reports:
    """Those of one bench."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._keys = [ledger._key("workers", "seen"), ledger._key("workers", "said")]

    def tell(self, report: Report) -> None:
        """Note it, and forget those of workers that are gone; raises BrokerUnavailable."""
        with self._ledger.reaching():
            arguments = [report.name, json.dumps(asdict(report))]
            self._ledger._script(TELL)(keys=self._keys, args=arguments)

    def all(self) -> list[Report]:
        """Of the workers that run, by name; raises BrokerUnavailable."""
        with self._ledger.reaching():
            found = self._ledger._script(READ)(keys=self._keys)
        reports = []
        for name, text in zip(found[::2], found[1::2], strict=True):
            try:
                reports.append(Report(**json.loads(text) | {"name": name}))
            except (ValueError, TypeError):  # another version's
                continue
        return sorted(reports, key=lambda report: report.name)
