"""Which incidents there are, and what is still to be said of them: in Redis, for all processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from uuid import uuid4

from frappe_jobs.alerts.targets import Notice
from frappe_jobs.ledger import Ledger

#: Seconds for which something must be wrong before it is an incident: a restart is none.
HOLD = 60
#: Seconds for which a process has a notice to itself, and after which nobody tries it any more.
LEASE, GIVEN_UP = 60, 24 * 3600

# One step: an incident and what is said of it are there together, or neither.
COMPARE = """
local open, suspected, notices = unpack(KEYS)
local wrong, targets, hold = cjson.decode(ARGV[1]), cjson.decode(ARGV[2]), tonumber(ARGV[3])
local fresh = ARGV[4]
local now = tonumber(redis.call('TIME')[1])
local function say(incident, rule, what, text)
  for _, target in ipairs(targets) do
    local notice = {incident = incident, rule = rule, what = what, text = text, at = now}
    redis.call('HSET', notices, target .. ':' .. what .. ':' .. incident, cjson.encode(notice))
  end
end
local said = 0
for n, one in ipairs(wrong) do
  local rule, text = one[1], one[2]
  if redis.call('HEXISTS', open, rule) == 0 then
    redis.call('HSETNX', suspected, rule, now)
    if now - tonumber(redis.call('HGET', suspected, rule)) >= hold then
      local incident = fresh .. '-' .. n
      redis.call('HSET', open, rule, cjson.encode({incident = incident, text = text, since = now}))
      say(incident, rule, 'begins', text)
      said = said + 1
    end
  end
end
local still = {}
for _, one in ipairs(wrong) do still[one[1]] = true end
for _, rule in ipairs(redis.call('HKEYS', suspected)) do
  if not still[rule] then redis.call('HDEL', suspected, rule) end
end
for _, rule in ipairs(redis.call('HKEYS', open)) do
  if not still[rule] then
    local was = cjson.decode(redis.call('HGET', open, rule))
    redis.call('HDEL', open, rule)
    say(was.incident, rule, 'over', 'Over: ' .. was.text)
    said = said + 1
  end
end
return said
"""


class Incidents:
    """Those of one bench.  All of it raises BrokerUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._notices = ledger._key("alerts", "notices")
        self._keys = [ledger._key("alerts", "open"), ledger._key("alerts", "suspected")]

    def compare(self, wrong: Mapping[str, str], targets: list[str], hold: float = HOLD) -> int:
        """Open incidents for what is wrong, by rule; end those of what is not; how many changed."""
        with self._ledger.reaching():
            arguments = [
                json.dumps([*wrong.items()]), json.dumps(targets), hold, uuid4().hex[:12],
            ]  # fmt: skip
            keys = [*self._keys, self._notices]
            return int(self._ledger._script(COMPARE)(keys=keys, args=arguments))

    def open(self) -> dict[str, str]:
        """The incidents that go on: by rule, what was said."""
        with self._ledger.reaching():
            found = self._ledger.redis.hgetall(self._keys[0])
        return {rule: json.loads(text)["text"] for rule, text in found.items()}

    def unsaid(self) -> Iterator[tuple[str, str, Notice]]:
        """Notices, each leased to this process, with the name of its target; the oldest first."""
        with self._ledger.reaching():
            now = self._ledger.redis.time()[0]
            found = self._ledger.redis.hgetall(self._notices)
        notices = [(name, Notice(**json.loads(text))) for name, text in found.items()]
        for name, notice in sorted(notices, key=lambda pair: (pair[1].at, pair[0])):
            if now - notice.at > GIVEN_UP:
                self.said(name)
            elif self._ledger.take_turn(f"alert:{name}", LEASE):
                with self._ledger.reaching():  # another one may have said it meanwhile
                    is_there = self._ledger.redis.hexists(self._notices, name)
                if is_there:
                    yield name, name.partition(":")[0], notice

    def said(self, name: str) -> None:
        """It was delivered."""
        with self._ledger.reaching():
            self._ledger.redis.hdel(self._notices, name)
