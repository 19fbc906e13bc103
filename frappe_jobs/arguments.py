"""Python values ↔ JSON, so that what arrives in the worker equals what was sent, type included.

JSON's own types travel as they are.  Everything else becomes an object whose key
``__frappe_jobs__`` names the type.  A dict that JSON would change (a key is no text), or that could
be taken for such an object, travels as a list of pairs.
"""

from __future__ import annotations

import base64
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from frappe_jobs.errors import BadMessage, JobNotSerializable, MethodNotAllowed, MethodNotFound

TAG = "__frappe_jobs__"
#: kombu's JSON decoder takes an object with exactly these keys for a value of its own.
KOMBUS = {"__type__", "__value__"}

#: Bits; Python may refuse to read or write a longer whole number in JSON.
LONGEST = 1000
#: Two characters that JSON's escapes would join into one.
SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")

Json = Any


@dataclass(frozen=True)
class Codec:
    """How a type travels; what ``encode`` gives is itself encoded."""

    name: str
    handles: Callable[[Any], bool]
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def of_type(
    kind: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any], name: str = ""
) -> Codec:
    """A codec for exactly that type; subclasses are refused, as they may hold more."""
    return Codec(name or kind.__name__, lambda value: type(value) is kind, encode, decode)


#: What may make a defaultdict's missing values, by name: only builtins.
FACTORIES: dict[str | None, type | None] = {
    None: None, **{kind.__name__: kind for kind in (bool, int, float, str, list, tuple, set, dict)}
}  # fmt: skip


def _pairs(value: Mapping[Any, Any]) -> list[list[Any]]:
    return [[key, item] for key, item in value.items()]


def _encode_moment(value: datetime | time) -> list[Any]:
    """Its text with offset, the name of its zone if it has one, and its fold."""
    zone = getattr(value.tzinfo, "key", None)
    naive = value.replace(tzinfo=None) if zone else value
    return [naive.isoformat(), zone, value.fold]


def _decode_moment(kind: type[datetime] | type[time]) -> Callable[[list[Any]], datetime | time]:
    def decode(parts: list[Any]) -> datetime | time:
        text, zone, fold = parts
        value = kind.fromisoformat(text).replace(fold=fold)
        return value.replace(tzinfo=ZoneInfo(zone)) if zone else value

    return decode


CODECS = (
    of_type(tuple, list, tuple),
    of_type(set, list, set),
    of_type(frozenset, list, frozenset),
    of_type(
        bytes,
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text, validate=True),
    ),
    of_type(datetime, _encode_moment, _decode_moment(datetime)),
    of_type(date, date.isoformat, date.fromisoformat),
    of_type(time, _encode_moment, _decode_moment(time)),
    of_type(
        timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    of_type(Decimal, str, Decimal),
    of_type(range, lambda value: [value.start, value.stop, value.step], lambda it: range(*it)),
    of_type(OrderedDict, _pairs, OrderedDict),
    of_type(Counter, _pairs, lambda pairs: Counter(dict(pairs))),
    of_type(deque, lambda value: [list(value), value.maxlen], lambda parts: deque(*parts)),
    Codec(
        "defaultdict",
        lambda value: type(value) is defaultdict and value.default_factory in FACTORIES.values(),
        lambda value: [getattr(value.default_factory, "__name__", None), _pairs(value)],
        lambda parts: defaultdict(FACTORIES[parts[0]], parts[1]),
    ),
    of_type(UUID, str, UUID),
    # Of these only the values that JSON would change (_is_plain): nan, infinity, very long numbers,
    # halves of a character.
    of_type(float, repr, float),
    of_type(int, hex, lambda text: int(text, 16)),
    of_type(
        str,
        lambda value: value.encode("utf-8", "surrogatepass").hex(),
        lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    ),
)


class Arguments:
    """A host's codecs: the standard types and what the host adds (documents)."""

    def __init__(self, extra: Iterable[Codec] = ()) -> None:
        self._codecs = (*CODECS, *extra)
        self._decoders = {codec.name: codec.decode for codec in self._codecs}

    def encode(self, arguments: Mapping[str, Any]) -> dict[str, Json]:
        """The arguments as JSON.

        Raises JobNotSerializable with the argument's name, the path to the value and its type.
        """
        if arguments.keys() == KOMBUS:
            raise JobNotSerializable(
                "Arguments called '__type__' and '__value__', and no others, cannot travel: kombu "
                "would take them for a value of its own."
            ).about(argument="__type__")
        return {
            name: value if _is_plain(value) else self._encode(value, name, ())
            for name, value in arguments.items()
        }

    def decode(self, arguments: Mapping[str, Json]) -> dict[str, Any]:
        """The arguments as they were sent; raises BadMessage if they were never encoded by us."""
        return {name: self.decode_value(value) for name, value in arguments.items()}

    def encode_value(self, value: Any, name: str) -> Json:
        return self._encode(value, name, ())

    def decode_value(self, value: Json) -> Any:
        try:
            return self._decode(value)
        except RecursionError:
            raise BadMessage("An argument is nested too deep.") from None

    def _decode(self, value: Json) -> Any:
        if isinstance(value, list):
            return [self._decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if TAG not in value:
            return {key: self._decode(item) for key, item in value.items()}
        kind, content = value[TAG], self._decode(value.get("value"))
        try:
            return dict(content) if kind == "dict" else self._decoders[kind](content)
        except BadMessage:
            raise
        except Exception as error:  # a hostile message may make a decoder raise anything
            raise BadMessage(f"An argument says it is a {kind!r}, but is none: {error!r}") from None

    def _encode(self, value: Any, path: str, above: tuple[int, ...]) -> Json:
        kind = type(value)
        if _is_plain(value):
            return value
        if id(value) in above:
            raise JobNotSerializable(f"Argument {path} contains itself.").about(argument=path)
        if len(above) >= 100:
            raise JobNotSerializable(f"Argument {path} is nested over 100 deep.").about(
                argument=path
            )
        inside = (*above, id(value))
        if kind is list:
            return [self._encode(item, f"{path}[{n}]", inside) for n, item in enumerate(value)]
        if kind is dict:
            if all(type(k) is str and _is_plain(k) for k in value) and not _is_tagged(value):
                return {k: self._encode(item, f"{path}.{k}", inside) for k, item in value.items()}
            pairs = [
                [
                    self._encode(key, f"{path}'s key {_shown(key)}", inside),
                    self._encode(item, f"{path}[{_shown(key)}]", inside),
                ]
                for key, item in value.items()
            ]
            return {TAG: "dict", "value": pairs}
        for codec in self._codecs:
            if codec.handles(value):
                try:
                    content = codec.encode(value)
                except (MethodNotFound, MethodNotAllowed) as error:
                    raise JobNotSerializable(f"Argument {path}: {error}").about(
                        argument=path
                    ) from None
                return {TAG: codec.name, "value": self._encode(content, path, inside)}
        raise JobNotSerializable(
            f"Argument {path} is a {kind.__module__}.{kind.__qualname__}, which cannot travel as "
            "JSON. Send its name or its values instead."
        ).about(argument=path)


def _is_tagged(value: dict[str, Any]) -> bool:
    """Whether a decoder, ours or kombu's, would take the dict for something else."""
    return TAG in value or value.keys() == KOMBUS


def _is_plain(value: object) -> bool:
    """Whether it travels as it is."""
    if type(value) is str:
        return value.isascii() or not SURROGATES.search(value)
    if type(value) is int:
        return value.bit_length() <= LONGEST
    if type(value) is float:
        return isfinite(value)
    return type(value) is bool or value is None


def _shown(key: object) -> str:
    try:
        return repr(key)
    except Exception:  # an object's own code, or a number that is too long
        return f"<{type(key).__name__}>"
