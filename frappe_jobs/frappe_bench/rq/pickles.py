"""Read a pickle as plain values: nothing that it names is imported or called.

Nor can it fill the memory: what it unpacks to, its parts and the copies that it has made are few.
"""

from __future__ import annotations

import pickle
import pickletools
import zlib
from collections.abc import Mapping, Sized
from functools import cache
from io import BytesIO
from typing import Any

from frappe_jobs.errors import ArgumentError

#: Steps of one pickle: each may make an object of 200 bytes.
STEPS = 1_000_000
#: The largest thing that a type is called with: an own text of a date or a number.  Without a
#: bound one step copies a list of a million, and the next one does so again.
LARGEST_ARGUMENT = 100
#: Steps that name a place of the reader's memory, which is made as large as that.
PLACES = ("PUT", "BINPUT", "LONG_BINPUT")


class Named:
    """An object of a class that is not known yet; a subclass is made for each name."""

    path = ""


class Making(type):
    """Stands for a plain type: gives that type's own objects, made of small things only."""

    kind: type
    #: As pickle asks a class that it finds; so a pickle sets nothing on this one.
    __setstate__ = None

    def __call__(cls, *arguments: Any) -> Any:
        _require_small(cls.kind, arguments)
        return cls.kind(*arguments)


def read(data: bytes, plain: Mapping[str, type], largest: int) -> Any:
    """The object; what is named and not among ``plain`` is a ``Named``.

    Raises ArgumentError, also if it unpacks to over ``largest`` bytes.
    """
    pickled = _unpacked(data, largest)
    try:
        _require_few_steps(pickled)
        return Reader(pickled, plain).load()
    except Exception as error:  # of a pickle anything may be wrong
        raise ArgumentError(f"it cannot be read without running it: {error!r:.200}") from None


class Reader(pickle.Unpickler):
    """Reads a pickle, and calls nothing of what it names."""

    def __init__(self, pickled: bytes, plain: Mapping[str, type]) -> None:
        super().__init__(BytesIO(pickled))
        self._plain = plain

    def find_class(self, module: str, name: str) -> type:
        path = f"{module}.{name}"
        if kind := self._plain.get(path):
            return _making(kind)
        return type("Named", (Named,), {"path": path})


@cache
def _making(kind: type) -> type:
    def new(_: type, *arguments: Any) -> Any:
        _require_small(kind, arguments)
        return kind.__new__(kind, *arguments)

    return Making(kind.__name__, (), {"kind": kind, "path": kind.__name__, "__new__": new})


def _require_small(kind: type, arguments: tuple[Any, ...]) -> None:
    for one in arguments:
        if _size(one) > LARGEST_ARGUMENT:
            raise ValueError(f"it makes a {kind.__name__} of something large")
        # Of a short Decimal it may be any number of digits.
        if kind is int and not isinstance(one, int):
            raise ValueError(f"it makes an int of a {type(one).__name__}")


def _size(value: Any) -> int:
    if isinstance(value, int):
        return value.bit_length() // 8
    return len(value) if isinstance(value, Sized) else 0


def _require_few_steps(pickled: bytes) -> None:
    for count, (step, argument, _) in enumerate(pickletools.genops(pickled)):
        if count > STEPS:
            raise ValueError(f"it has over {STEPS} steps")
        if step.name in PLACES and int(argument or 0) > count:
            raise ValueError(f"it names a place {argument} of its reader's memory")


def _unpacked(data: bytes, largest: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        pickled = unpacker.decompress(data, largest + 1)
    except zlib.error:  # as versions of RQ before 1.0 wrote it
        pickled = data
    else:
        if not unpacker.eof and len(pickled) <= largest:
            raise ArgumentError("it is damaged: its end is missing")
    if len(pickled) > largest:
        raise ArgumentError(
            f"it holds over {largest} bytes when it is unpacked "
            "('frappe_jobs_max_message_size' allows no more)"
        )
    return pickled
