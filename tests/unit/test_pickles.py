"""What a job of RQ's may be: plain values, and no more of them than the memory bears."""

from __future__ import annotations

import pickle
import pickletools
import subprocess
import sys
import zlib
from collections import OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from frappe_jobs.errors import ArgumentError
from frappe_jobs.frappe_bench.rq.pickles import STEPS, Named, read

PLAIN: dict[str, type] = {
    f"{kind.__module__}.{kind.__name__}": kind
    for kind in (
        bool, int, float, str, list, tuple, set, frozenset, dict, OrderedDict, defaultdict, deque,
        date, datetime, time, timedelta, timezone, Decimal, UUID,
    )
}  # fmt: skip
LARGEST = 10_000_000

UTC = timezone.utc
VALUES = [
    None, True, -1, 10**40, 0.5, "é", b"\xff", [1, [2]], (1,), {3}, frozenset({4}), {"a": {"b": 1}},
    OrderedDict(a=1), defaultdict(list, a=[1]), defaultdict(int, a=1), deque([1], 3), deque([2]),
    date(2026, 1, 2), datetime(2026, 1, 2, 3, tzinfo=UTC), time(4), timedelta(1, 2, 3),
    timezone(timedelta(hours=2)), Decimal("1.50"), Decimal("1E+999"), UUID(int=5),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("protocol", [4, 5])
def test_plain_values_are_read_as_they_were(value: Any, protocol: int) -> None:
    pickled = pickle.dumps(value, protocol)
    for data in (zlib.compress(pickled), pickled, pickletools.optimize(pickled)):
        found = read(data, PLAIN, LARGEST)
        assert found == value and type(found) is type(value)


def test_a_factory_makes_plain_values() -> None:
    found = read(pickle.dumps(defaultdict(list)), PLAIN, LARGEST)
    assert type(found["new"]) is list


def test_what_is_not_plain_is_a_name() -> None:
    found = read(pickle.dumps([ArgumentError, Named()]), PLAIN, LARGEST)
    assert found[0].path == "frappe_jobs.errors.ArgumentError" and issubclass(found[0], Named)
    assert found[1].path.endswith("pickles.Named")


def of_type(name: str, *steps: bytes) -> bytes:
    return b"".join([b"\x80\x04cbuiltins\n", name.encode(), b"\n", *steps, b"."])


def copies(name: str) -> bytes:
    """Copy one list of 100,000 so many times over that nothing could hold it."""
    long_list = b"]\x94(" + b"K\x01" * 100_000 + b"e"
    copy = b"cbuiltins\n" + name.encode() + b"\nh\x00\x85R"
    return b"\x80\x04]\x94" + long_list.replace(b"]\x94", b"") + b"0](" + copy * 50_000 + b"e."


#: A pickle, and what is said of it.
BOMBS = {
    "zeros": (zlib.compress(b"\0" * 2**30), "holds over 10000000 bytes when it is unpacked"),
    "as it is": (b"\0" * (LARGEST + 1), "holds over 10000000 bytes when it is unpacked"),
    "cut off": (zlib.compress(pickle.dumps([*range(1000)]))[:-20], "its end is missing"),
    "steps": (b"\x80\x04(" + b"\x8f" * (STEPS + 1) + b"l.", f"over {STEPS} steps"),
    "a place": (b"\x80\x04Nr\xff\xff\xff\x7f.", "a place 2147483647 of its reader's memory"),
    "a place in words": (b"\x80\x04Np2000000000\n.", "a place 2000000000"),
    "a text": (b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"x.", "cannot be read"),
    "copies": (copies("list"), "it makes a list of something large"),
    "copies by new": (copies("list").replace(b"\x85R", b"\x85\x81"), "a list of something large"),
    "digits": (
        of_type("int", b"cdecimal\nDecimal\n\x8c\x0c1E+900000000\x85R\x85R"),
        "it makes an int of a Decimal",
    ),
    "a large number": (
        of_type("str", b"\x8b" + (10**6).to_bytes(4, "little") + b"\x01" * 10**6 + b"\x85R"),
        "it makes a str of something large",
    ),
    "a setting": (of_type("list", b"N}\x8c\x04kindNs\x86b"), "cannot be read"),
    "nothing": (b"", "its end is missing"),
}
#: Reads what stands in standard input, with 500 MB at most.
READ = f"""
import resource, sys
from frappe_jobs.frappe_bench.rq.pickles import read
resource.setrlimit(resource.RLIMIT_AS, (500_000_000, 500_000_000))
{{}}
try:
    read(sys.stdin.buffer.read(), PLAIN, {LARGEST})
except Exception as error:
    print(f"{{{{type(error).__name__}}}}: {{{{error}}}}")
"""
PLAIN_THERE = """
from decimal import Decimal
PLAIN = {f"{kind.__module__}.{kind.__name__}": kind for kind in (int, list, str, Decimal)}
"""


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_fill_the_memory_is_refused_in_a_line(name: str) -> None:
    data, said = BOMBS[name]
    done = subprocess.run(
        [sys.executable, "-c", READ.format(PLAIN_THERE)], input=data, capture_output=True,
        timeout=60,
    )  # fmt: skip
    (line,) = done.stdout.decode().splitlines()
    assert line.startswith("ArgumentError: ") and said in line, line
    assert len(line) < 400 and "MemoryError" not in line
