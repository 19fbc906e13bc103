"""Some minutes or hours of history in one compressed text, by name and by what was counted."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from frappe_jobs.history.counts import RAN, Codes
from frappe_jobs.ledger.connection import as_bytes
from frappe_jobs.ledger.counting import FAILED, FIELDS, FINISHED, read_field

logger = logging.getLogger(__name__)

#: The name of those that are not among the busiest, all together.
OTHERS = ""


class Bounds(NamedTuple):
    """How much a chunk keeps: so many names, and the times of so many of them."""

    names: int
    with_times: int


#: By what is counted.  All together, for a whole bench: tests/integration/test_history_size.py.
BOUNDS: Mapping[str, Bounds] = {
    "queue": Bounds(200, 100),
    "site": Bounds(2_000, 30),
    "method": Bounds(200, 50),
}

#: For minutes the one is shorter, for hours the other.
STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED)


class Chunk:
    """So many slots; in each it is known or not what happened."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.known: set[int] = set()
        #: By name, then by code, a number for each slot.
        self.rows: dict[str, dict[str, list[int]]] = {}

    def add(self, slot: int, counted: Mapping[str, Codes]) -> None:
        """Count it in, beside what is there; from now on it is known what happened then."""
        self.known.add(slot)
        for name, codes in counted.items():
            row = self.rows.setdefault(name, {})
            for code, many in codes.items():
                if code not in row:
                    row[code] = [0] * self.slots
                row[code][slot] += many

    def bound(self, bounds: Bounds) -> None:
        """Keep the busiest names, and the times of the busiest of them; the others count together.

        Only the times are lost, and who it was.
        """
        if len(self.rows) <= bounds.with_times:
            return
        names = [name for name in self.rows if name != OTHERS]
        names.sort(key=self._activity, reverse=True)
        for name in names[bounds.names :]:
            self._merge(OTHERS, self.rows.pop(name))
        for name in (*names[bounds.with_times : bounds.names], OTHERS):
            self._merge(name, self.rows.pop(name, {}))

    def _activity(self, name: str) -> int:
        return sum(sum(numbers) for numbers in self.rows[name].values())

    def _merge(self, name: str, row: Mapping[str, list[int]]) -> None:
        """Add the row's numbers, without the times, to those of that name."""
        into = self.rows.setdefault(name, {}) if row else {}
        for code, numbers in row.items():
            if code[0] == RAN:  # finished and failed say how many
                continue
            there = into.get(code[0], [0] * self.slots)
            into[code[0]] = [one + other for one, other in zip(there, numbers, strict=True)]

    def codes(self, name: str, slot: int) -> dict[str, int]:
        """What was counted for that name then."""
        row = self.rows.get(name, {})
        return {code: numbers[slot] for code, numbers in row.items() if numbers[slot]}

    # --- as Redis keeps it: a head that says what follows, and the numbers

    def packed(self) -> bytes:
        head, parts = [], []
        for name, row in sorted(self.rows.items()):
            codes = []
            for code, numbers in sorted(row.items()):
                width = _width(max(numbers))
                codes.append(f"{code}{width}")
                parts.append(struct.pack(f"<{self.slots}{width}", *numbers))
            head.append([name, " ".join(codes)])
        text = json.dumps([self.slots, sorted(self.known), head], separators=(",", ":")).encode()
        data = struct.pack("<I", len(text)) + text + b"".join(parts)
        return min(_compressed(data, strategy) for strategy in STRATEGIES)[1]

    @classmethod
    def unpacked(cls, text: str | None, slots: int) -> Chunk:
        """What packed made, as Redis gave it back; an empty one for none, or if it is damaged."""
        chunk = cls(slots)
        if not text:
            return chunk
        try:
            chunk._read(zlib.decompress(as_bytes(text)))
        except (ValueError, LookupError, TypeError, struct.error, zlib.error) as error:
            logger.error("a part of the history cannot be read, and is begun anew: %s", error)
            return cls(slots)
        return chunk

    def _read(self, data: bytes) -> None:
        (length,) = struct.unpack_from("<I", data)
        slots, known, head = json.loads(data[4 : 4 + length])
        if slots != self.slots:
            raise ValueError(f"it has {slots} slots")
        self.known.update(known)
        place = 4 + length
        for name, codes in head:
            row = self.rows[name] = {}
            for code in codes.split():
                form = f"<{slots}{code[-1]}"
                row[code[:-1]] = list(struct.unpack_from(form, data, place))
                place += struct.calcsize(form)


def _compressed(data: bytes, strategy: int) -> tuple[int, bytes]:
    compressor = zlib.compressobj(6, zlib.DEFLATED, 15, 9, strategy)
    made = compressor.compress(data) + compressor.flush()
    return len(made), made


def _width(largest: int) -> str:
    return next(form for form, bits in (("B", 8), ("H", 16), ("I", 32), ("Q", 64))
                if largest < 2**bits)  # fmt: skip


#: What a hash of counts holds, as Redis gave it back.
Fields = Iterable[tuple[str, str]]


def read_minute(kind: str, jobs: Fields, apart: Fields) -> dict[str, dict[str, int]]:
    """What a minute's hashes hold of that kind, by name: that of all jobs, and its own.

    The times of all runs are together, however they ended.
    """
    found: dict[str, Counter[str]] = {}
    place = [*FIELDS].index(kind)
    counted = [(*read_field(field), text) for field, text in jobs]
    rows = [(code, names[place], text) for code, names, text in counted]
    rows += [(*_partitioned(field), text) for field, text in apart]
    for code, name, text in rows:
        letter, number = code[0], code[1:]
        codes, many = found.setdefault(name, Counter()), int(text)
        if letter in FINISHED + FAILED:
            codes[letter] += many
            code = RAN + number
        if number or letter not in FINISHED + FAILED:
            codes[code] += many
    return {name: dict(codes) for name, codes in found.items()}


def _partitioned(field: str) -> tuple[str, str]:
    code, _, name = field.partition(":")
    return code, name
