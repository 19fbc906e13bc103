"""Which of very many indexes come next: of a thousand sites a page shows the jobs of some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.cursor import FIRST, Position
from frappe_jobs.ledger.sieve import Kind, Stream
from frappe_jobs.message import to_json

#: Indexes whose newest entries are looked at in one step: Redis does nothing else meanwhile.
STEP = 500

# most: so many are given; before, after: around an index's name in its key; the newest entry's
# score is no higher than top and no lower than low, and shift more than its time
# gives of those that come first: the place of its name, and that score
HEADS = """
local most, before, after, top, low, shift, names = unpack(ARGV)
local heads = {}
low = tonumber(low)
for n, name in ipairs(cjson.decode(names)) do
  local key, found = before .. name .. after, nil
  if top == 'inf' then  -- that is quicker
    found = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  else
    found = redis.call('ZREVRANGEBYSCORE', key, top, ARGV[5], 'WITHSCORES', 'LIMIT', 0, 1)
  end
  local score = tonumber(found[2])
  -- The number is for the order: to make one for each comparison takes as long as all the rest.
  if score and score >= low then heads[#heads + 1] = {n - 1, found[2], score} end
end
most = tonumber(most)
if #heads > most then
  table.sort(heads, function(one, other) return one[3] > other[3] end)
end
local answer = {}
for n = 1, math.min(most, #heads) do
  answer[2 * n - 1], answer[2 * n] = heads[n][1], heads[n][2]
end
return answer
"""


@dataclass(frozen=True)
class Family:
    """Indexes that are alike; each has its name in its key, between these."""

    kind: Kind
    before: str
    names: Sequence[str]
    after: str = ""


@dataclass(frozen=True)
class Head:
    """The first entry of an index: its time, its score, and which it is."""

    time: float
    score: float
    family: Family
    name: str

    @property
    def key(self) -> tuple[int, str]:
        """Of one index several families may read different parts."""
        return id(self.family), self.name

    def stream(self, position: Position) -> Stream:
        family = self.family
        return Stream(
            family.kind, f"{family.before}{self.name}{family.after}", position, self.score
        )


class Nearest:
    """The indexes of some families: those that come next, and the rest when it is their turn."""

    def __init__(self, ledger: Ledger, families: Sequence[Family], begun: Position) -> None:
        self._ledger, self._families, self._begun = ledger, families, begun
        self._known: set[tuple[int, str]] = set()
        #: The place before which the rest has nothing; None: there is no rest.
        self.next: Position | None = None

    def first(self, count: int) -> list[Stream]:
        """So many that come next."""
        heads = self._heads(count + 1)
        if len(heads) > count:
            self.next = Position(heads[count].time, FIRST)
        del heads[count:]
        self._known = {head.key for head in heads}
        return [head.stream(self._begun) for head in heads]

    def rest(self) -> list[Stream]:
        """All others; from there on, as what has come before them meanwhile is passed by."""
        self._begun, self.next = min(self._begun, self.next or self._begun), None
        return [head.stream(self._begun) for head in self._heads() if head.key not in self._known]

    def _heads(self, most: int | None = None) -> list[Head]:
        """The first entries, latest first; as many as that, if it is said."""
        found = [head for family in self._families for head in self._of(family, most)]
        found.sort(key=lambda head: -head.time)
        return found[:most]

    def _of(self, family: Family, most: int | None) -> Iterator[Head]:
        kind = family.kind
        top = kind.start(self._begun).time + kind.shift
        for start in range(0, len(family.names), STEP):
            names = family.names[start : start + STEP]
            with self._ledger.reaching():
                reply = self._ledger._script(HEADS)(
                    args=[
                        STEP if most is None else most, family.before, family.after, repr(top),
                        repr(kind.lowest), repr(kind.shift), to_json([*names]),
                    ]
                )  # fmt: skip
            for place, score in zip(reply[::2], reply[1::2], strict=True):
                at = float(score)
                yield Head(at - kind.shift, at, family, names[int(place)])
