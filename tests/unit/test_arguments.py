"""Arguments arrive equal and of the same type, or are refused at the call."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from math import copysign, inf, nan
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from frappe_jobs.arguments import TAG, Arguments, Codec
from frappe_jobs.errors import BadMessage, JobNotSerializable

BERLIN = ZoneInfo("Europe/Berlin")
ARGUMENTS = Arguments()

ROADS: dict[str, Callable[[Any], Any]] = {
    "json": lambda value: json.loads(json.dumps(value)),
    "kombu": lambda value: kombu_json.loads(kombu_json.dumps(value)),
}


class Text(str):
    pass


class Number(IntEnum):
    ONE = 1


class Moody:
    def __repr__(self) -> str:
        raise RuntimeError("not today")


Point = namedtuple("Point", "x y")


def travelled(road: str, **arguments: Any) -> dict[str, Any]:
    return ARGUMENTS.decode(ROADS[road](ARGUMENTS.encode(arguments)))


def form(value: Any) -> Any:
    """What tells two values apart that Python calls equal: types, order, zones, -0.0, nan."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [form(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(form(item)) for item in value)
    if kind is deque:
        return kind, [form(item) for item in value], value.maxlen
    if kind is defaultdict:
        return kind, form(dict(value)), value.default_factory
    if kind in (dict, OrderedDict, Counter):
        return kind, [(form(key), form(item)) for key, item in value.items()]
    if kind in (datetime, time):
        return kind, value.replace(tzinfo=None).isoformat(), zone(value.tzinfo), value.fold
    return kind, repr(value) if kind in (float, Decimal) else value


def zone(tz: tzinfo | None) -> object:
    return (type(tz), getattr(tz, "key", None) or tz.utcoffset(None)) if tz else None


VALUES = [
    "", "text", "zażółć 😀", "a\x00b\n", "\ud800", "\ud83d\ude00", "__frappe_jobs__",
    0, -1, 2**63, 10**300, 10**5000, -(10**5000),
    0.0, -0.0, 0.1, 1e308, 5e-324, 1.0, nan, inf, -inf,
    True, False, None,
    [], [1, "a", None, [2.0]],
    {}, {"a": {"b": [1]}},
    (), (1,), (1, (2, [3])),
    set(), {1, 2}, {(1, 2), "a"}, frozenset({1}), {frozenset({1})},
    b"", b"abc", bytes(range(256)),
    date(2024, 2, 29), date.min, date.max,
    time(1, 2, 3, 4), time(0), time(12, tzinfo=timezone.utc), time(12, tzinfo=BERLIN),
    time(2, 30, fold=1),
    datetime(2024, 5, 6), datetime(2024, 5, 6, 7, 8, 9, 123456), datetime.min, datetime.max,
    datetime(2024, 5, 6, tzinfo=timezone.utc),
    datetime(2024, 5, 6, tzinfo=ZoneInfo("UTC")),
    datetime(2024, 5, 6, tzinfo=timezone(-timedelta(hours=3, minutes=30))),
    datetime(2024, 5, 6, tzinfo=timezone(timedelta(seconds=5025, microseconds=7))),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN), datetime(2024, 10, 27, 2, 30, fold=1),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2024, 10, 27, 2, 30, tzinfo=timezone.utc, fold=1),
    timedelta(), timedelta(days=-1, microseconds=1), timedelta.max, timedelta.min,
    Decimal("1.10"), Decimal("-0"), Decimal("1E+30"), Decimal("NaN"), Decimal("sNaN"),
    Decimal("-Infinity"), Decimal("0.1234567890123456789012345678901234567890"),
    UUID("12345678-1234-5678-1234-567812345678"),
    range(0), range(5, -1, -2),
    OrderedDict(), OrderedDict([("b", (1,)), ("a", 2)]), Counter("abb"), Counter({(1, 2): -1}),
    deque(), deque([1, (2,)]), deque([1, 2], maxlen=2), defaultdict(list, {"a": [1]}),
    defaultdict(int, {(1, 2): 3}), defaultdict(None, {"a": 1}),
    {1: "a", 2: "b"}, {"1": "text", 1: "number"}, {None: 1, 1.5: 2, b"k": 3, (1, "x"): 4},
    {date(2024, 1, 1): {Decimal("1"): {"a"}}}, {True: "yes"}, {"\ud83d\ude00": 1}, {10**5000: 1},
    {TAG: "tuple", "value": [1]}, {TAG: 1}, [{TAG: {TAG: "dict"}}],
    {"__type__": "bytes", "__value__": "x"}, {"__type__": "no such", "__value__": 1},
    {"__type__": 1}, {"__value__": 1}, {"type": {"__type__": "uuid", "__value__": {"hex": "1"}}},
    {"value": 1}, {"b": 1, "a": 2}, {2: 1, 1: 2},
    {"deep": ({"set": ({1, 2}, [b"x"])}, date(2024, 1, 1))},
]  # fmt: skip


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(type(value).__name__))
def test_a_value_arrives_equal_and_of_the_same_type(road: str, value: Any) -> None:
    arrived = travelled(road, value=value)
    assert form(arrived["value"]) == form(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(type(value).__name__))
def test_what_travels_is_json_for_every_reader(value: Any) -> None:
    json.dumps(ARGUMENTS.encode({"value": value}), allow_nan=False)


def test_a_zone_arrives_as_the_zone_and_keeps_its_rules() -> None:
    arrived = travelled("json", at=datetime(2024, 3, 30, 12, tzinfo=BERLIN))["at"]
    assert arrived.tzinfo is BERLIN
    assert (arrived + timedelta(days=1)).utcoffset() == timedelta(hours=2)


def test_minus_zero_keeps_its_sign() -> None:
    assert copysign(1, travelled("json", x=-0.0)["x"]) == -1


@pytest.mark.parametrize("value", ["a", 1, 1.5, True, None, [1, ["b"]], {"a": {"b": 1}}])
def test_what_json_has_itself_travels_as_itself(value: Any) -> None:
    assert ARGUMENTS.encode_value(value, "x") == value


def test_a_value_that_occurs_twice_is_no_circle() -> None:
    twice = [1]
    assert travelled("json", x=[twice, twice], y=twice) == {"x": [[1], [1]], "y": [1]}


def test_the_callers_values_are_left_as_they_are() -> None:
    given = {"a": [1, (2,)], 1: {3}}
    ARGUMENTS.encode({"x": given})
    assert given == {"a": [1, (2,)], 1: {3}}


def test_a_value_a_hundred_deep_travels() -> None:
    value: Any = "bottom"
    for _ in range(100):
        value = {1: value}
    assert travelled("kombu", x=value) == {"x": value}


def test_a_hosts_own_type_travels_and_what_it_holds_is_encoded_in_turn() -> None:
    codec = Codec("text", lambda v: isinstance(v, Text), lambda v: (str(v), {1}), lambda p: p)
    host = Arguments([codec])
    assert host.decode(ROADS["kombu"](host.encode({"x": [Text("a")]}))) == {"x": [("a", {1})]}


def test_a_hosts_own_words_for_a_bad_message_are_kept() -> None:
    def decode(parts: Any) -> Any:
        raise BadMessage("Order has no field 'colour'.")

    host = Arguments([Codec("order", lambda v: False, str, decode)])
    with pytest.raises(BadMessage, match="^Order has no field 'colour'.$"):
        host.decode({"x": {TAG: "order"}})


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary()
    | st.text(st.characters(codec="utf-8") | st.characters(categories=["Cs"]))
    | st.decimals() | st.uuids() | st.timedeltas() | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones() | st.just(timezone.utc))
    | st.times(timezones=st.none() | st.just(BERLIN))
    | st.integers(2**900, 2**20000)
)  # fmt: skip
KEYS = (
    st.text() | st.integers() | st.booleans() | st.dates() | st.binary()
    | st.tuples(st.integers(), st.text()) | st.sampled_from([TAG, "__type__", "__value__", "value"])
)  # fmt: skip
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
    ),
    max_leaves=12,
)


@settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(value=NESTED)
def test_any_nested_value_arrives_equal_and_of_the_same_type(value: Any) -> None:
    for road in ROADS:
        assert form(travelled(road, x=value)["x"]) == form(value)


@pytest.mark.parametrize(
    ("value", "path", "type_name"),
    [
        (object(), "x", "builtins.object"),
        ([1, {"a": object()}], "x[1].a", "builtins.object"),
        ({1: object()}, "x[1]", "builtins.object"),
        ({(1, Text("a")): 1}, "x's key (1, 'a')[1]", ".Text"),
        ((1, [print]), "x[1][0]", "builtins.builtin_function_or_method"),
        ({Moody()}, "x[0]", ".Moody"),
        ({Moody(): 1}, "x's key <Moody>", ".Moody"),
        (Text("a"), "x", ".Text"),
        (Number.ONE, "x", ".Number"),
        (Point(1, 2), "x", ".Point"),
        (defaultdict(Moody), "x", "collections.defaultdict"),
        (bytearray(b"a"), "x", "builtins.bytearray"),
        (1j, "x", "builtins.complex"),
        (iter([1]), "x", "builtins.list_iterator"),
        (iter([]), "x", "builtins.list_iterator"),
        (ValueError("a"), "x", "builtins.ValueError"),
        (int, "x", "builtins.type"),
        ({Text("a"): 1}, "x's key 'a'", ".Text"),
    ],
    ids=lambda value: ascii(value) if isinstance(value, str) else "",
)
def test_another_type_is_refused_with_the_way_to_it_and_its_name(
    value: Any, path: str, type_name: str
) -> None:
    with pytest.raises(JobNotSerializable) as refused:
        ARGUMENTS.encode({"fine": 1, "x": value})
    assert f"Argument {path} is a " in str(refused.value)
    assert f"{type_name}, which cannot travel as JSON" in str(refused.value)
    assert refused.value.details == {"argument": path}


def test_what_contains_itself_is_refused_with_the_way_to_it() -> None:
    loop: list[Any] = [1]
    loop.append({"a": (loop,)})
    with pytest.raises(JobNotSerializable, match=r"Argument x\[1\].a\[0\] contains itself"):
        ARGUMENTS.encode({"x": loop})


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {1: v}])
@pytest.mark.parametrize("depth", [101, 5000])
def test_what_is_nested_deeper_is_refused(wrap: Callable[[Any], Any], depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    with pytest.raises(JobNotSerializable, match=r"Argument x\[.*is nested over 100 deep"):
        ARGUMENTS.encode({"x": value})


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    "names", [[TAG], [TAG, "value"], ["__type__"], ["__value__"], ["__type__", "__value__", "x"]]
)
def test_an_argument_may_have_any_name(road: str, names: list[str]) -> None:
    assert travelled(road, **dict.fromkeys(names, "bytes")) == dict.fromkeys(names, "bytes")


def test_arguments_that_are_named_as_kombus_own_are_refused() -> None:
    with pytest.raises(JobNotSerializable, match="'__type__' and '__value__', and no others"):
        ARGUMENTS.encode({"__type__": "bytes", "__value__": "x"})


@pytest.mark.parametrize(
    "hostile",
    [
        {TAG: "no such type", "value": 1},
        {TAG: None},
        {TAG: 1, "value": 1},
        {TAG: [1], "value": 1},
        {TAG: {"a": 1}, "value": 1},
        {TAG: "tuple"},
        {TAG: "tuple", "value": 1},
        {TAG: "set", "value": [[1]]},
        {TAG: "frozenset", "value": [{}]},
        {TAG: "dict", "value": 1},
        {TAG: "dict", "value": [1]},
        {TAG: "dict", "value": [[1, 2, 3]]},
        {TAG: "dict", "value": [[[1], 2]]},
        {TAG: "bytes", "value": 1},
        {TAG: "bytes", "value": "ä"},
        {TAG: "bytes", "value": "a"},
        {TAG: "bytes", "value": "!!!!"},
        {TAG: "date", "value": 1},
        {TAG: "date", "value": "yesterday"},
        {TAG: "datetime", "value": "2024-01-01"},
        {TAG: "datetime", "value": ["2024-01-01"]},
        {TAG: "datetime", "value": ["2024-01-01", None, 7]},
        {TAG: "datetime", "value": ["2024-01-01", "../../etc/passwd", 0]},
        {TAG: "datetime", "value": ["2024-01-01", "No/Such", 0]},
        {TAG: "datetime", "value": ["2024-01-01", [1], 0]},
        {TAG: "time", "value": ["25:00", None, 0]},
        {TAG: "timedelta", "value": [10**12]},
        {TAG: "timedelta", "value": "abc"},
        {TAG: "Decimal", "value": "1,5"},
        {TAG: "Decimal", "value": None},
        {TAG: "range", "value": [1, 2, 0]},
        {TAG: "OrderedDict", "value": [1]},
        {TAG: "Counter", "value": 1},
        {TAG: "deque", "value": [1]},
        {TAG: "defaultdict", "value": ["open", []]},
        {TAG: "UUID", "value": "1"},
        {TAG: "UUID", "value": 1},
        {TAG: "float", "value": "one"},
        {TAG: "float", "value": [1]},
        {TAG: "int", "value": "0xg"},
        {TAG: "int", "value": 1},
        {TAG: "str", "value": "f"},
        {TAG: "str", "value": "ff"},
    ],
    ids=ascii,
)
def test_a_hostile_form_is_a_bad_message(hostile: Any) -> None:
    for around in (hostile, [hostile], {"a": hostile}, {TAG: "tuple", "value": [hostile]}):
        with pytest.raises(BadMessage):
            ARGUMENTS.decode({"x": around})


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: {TAG: v}])
def test_a_hostile_form_that_is_endlessly_deep_is_a_bad_message(
    wrap: Callable[[Any], Any],
) -> None:
    value: Any = 1
    for _ in range(5000):
        value = wrap(value)
    for hostile in (value, {TAG: "tuple", "value": value}, {TAG: value}):
        with pytest.raises(BadMessage):
            ARGUMENTS.decode({"x": hostile})


def test_a_bad_message_says_what_it_claimed_to_be() -> None:
    with pytest.raises(BadMessage, match="says it is a 'UUID', but is none: ValueError"):
        ARGUMENTS.decode({"x": {TAG: "UUID", "value": "1"}})
