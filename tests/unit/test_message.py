"""The envelope comes out of the wire as it went in, and anything else is a BadMessage."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from kombu.utils import json as kombu_json

from frappe_jobs.errors import ArgumentError, BadMessage
from frappe_jobs.message import VERSION, Message, Retry

BARE = Message(
    id="m1",
    job_id="j1",
    site="site1",
    user="grete@acme.test",
    method="acme.tasks.add",
    queue="short",
    name="Add",
    timeout=300,
    enqueued_at=1700000000.25,
)
FULL = replace(
    BARE,
    arguments={"x": 1, "y": [None, {"z": "ä"}]},
    event="nightly",
    at_front=True,
    on_success="acme.tasks.on_success",
    on_failure="acme.tasks.on_failure",
    retry=Retry(3, (1, 5)),
    failure_of="m0",
    task_id="t1",
    expires_at=1700000060.5,
)
REQUIRED = {
    "id", "job_id", "site", "user", "method", "queue", "name", "timeout", "enqueued_at",
}  # fmt: skip
OPTIONAL = {
    "event",
    "at_front",
    "on_success",
    "on_failure",
    "retry",
    "failure_of",
    "task_id",
    "expires_at",
}


def header(**changes: Any) -> dict[str, Any]:
    return FULL.header() | changes


messages = pytest.mark.parametrize("message", [BARE, FULL], ids=["bare", "full"])


@messages
@pytest.mark.parametrize("codec", [json, kombu_json], ids=["json", "kombu"])
def test_a_message_comes_out_of_the_wire_as_it_went_in(message: Message, codec: Any) -> None:
    head, arguments = codec.loads(codec.dumps([message.header(), message.arguments]))
    assert Message.from_wire(head, arguments) == message


@messages
def test_a_message_comes_out_of_its_json_as_it_went_in(message: Message) -> None:
    assert Message.from_json(message.to_json()) == message


def test_the_header_holds_the_version_and_no_arguments() -> None:
    assert FULL.header() == {
        "version": VERSION, "id": "m1", "job_id": "j1", "site": "site1", "user": "grete@acme.test",
        "method": "acme.tasks.add", "queue": "short", "name": "Add", "timeout": 300,
        "enqueued_at": 1700000000.25, "event": "nightly", "at_front": True,
        "on_success": "acme.tasks.on_success", "on_failure": "acme.tasks.on_failure",
        "retry": {"max": 3, "interval": (1, 5)}, "failure_of": "m0", "task_id": "t1",
        "expires_at": 1700000060.5,
    }  # fmt: skip


def test_what_is_not_said_does_not_travel() -> None:
    assert BARE.header().keys() == REQUIRED | {"version", "at_front"}


def test_the_json_form_is_short() -> None:
    text = FULL.to_json()
    assert ", " not in text and ": " not in text


def test_a_message_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        BARE.site = "site2"  # type: ignore[misc]


def test_the_same_job_again_has_a_fresh_id_and_time_and_does_not_expire() -> None:
    again = FULL.again(at=5.0)
    assert again.id not in (FULL.id, FULL.again(at=5.0).id)
    assert again == replace(FULL, id=again.id, enqueued_at=5.0, expires_at=None)


@pytest.mark.parametrize("field", sorted(OPTIONAL))
@pytest.mark.parametrize("how", ["left out", "null"])
def test_an_optional_field_may_be_left_out_or_null(field: str, how: str) -> None:
    head = header(**{field: None})
    if how == "left out":
        del head[field]
    read = Message.from_wire(head, {})
    assert getattr(read, field) == getattr(BARE, field)
    assert type(getattr(read, field)) is type(getattr(BARE, field))


@pytest.mark.parametrize("field", sorted(REQUIRED))
@pytest.mark.parametrize("how", ["left out", "null"])
def test_a_required_field_may_be_neither(field: str, how: str) -> None:
    head = header(**{field: None})
    if how == "left out":
        del head[field]
    with pytest.raises(BadMessage, match=f"^The message's '{field}' is None.$"):
        Message.from_wire(head, {})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, wrong) for field in sorted(REQUIRED - {"timeout", "enqueued_at"})
          for wrong in (1, True, ["a"], {"a": 1})),
        *((field, wrong) for field in sorted(OPTIONAL - {"at_front", "retry", "expires_at"})
          for wrong in (1, False, ["a"], {"a": 1})),
        *(("timeout", wrong) for wrong in ("300", 1.5, True, False, [1])),
        *(("enqueued_at", wrong) for wrong in ("now", True, [1])),
        *(("expires_at", wrong) for wrong in ("now", True, [1], -1, 2**50, float("nan"))),
        *(("at_front", wrong) for wrong in (1, 0, "yes", [True])),
        *(("retry", wrong) for wrong in (
            3, "3", True, [3], {}, {"max": 0}, {"max": "3"}, {"max": 1, "interval": -1},
            {"max": 1, "interval": None}, {"max": 1, "interval": []}, {"max": 1, "more": 1},
        )),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_field_of_a_wrong_type_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadMessage) as refused:
        Message.from_wire(header(**{field: value}), {})
    assert f"The message's {field!r} is {value!r}" in str(refused.value)


def test_a_whole_number_of_seconds_is_a_time_too() -> None:
    assert Message.from_wire(header(enqueued_at=5), {}).enqueued_at == 5


def test_unknown_fields_are_named() -> None:
    with pytest.raises(BadMessage, match=r"^The message has unknown fields: a, b, c, d, e, f\.$"):
        Message.from_wire(header(**dict.fromkeys("fbdcae", 1)), {})


@pytest.mark.parametrize("version", [None, 0, -1, 99, "1", [1]])
def test_another_version_is_refused_and_named(version: Any) -> None:
    with pytest.raises(BadMessage, match="^The message's version is ") as refused:
        Message.from_wire(header(version=version), {})
    assert f" {version!r}, not {VERSION}" in str(refused.value)


def test_the_version_comes_first_as_another_one_may_have_other_fields() -> None:
    with pytest.raises(BadMessage, match="version is 99"):
        Message.from_wire({"version": 99, "colour": "red"}, None)


@pytest.mark.parametrize("head", [None, "text", 1, [], [["version", 1]]])
def test_a_message_without_our_header_is_refused(head: Any) -> None:
    with pytest.raises(BadMessage, match="no 'frappe_jobs' header"):
        Message.from_wire(head, {})


@pytest.mark.parametrize("arguments", [None, "text", 1, [], [["x", 1]]])
def test_arguments_that_are_no_object_are_refused(arguments: Any) -> None:
    name = type(arguments).__name__
    with pytest.raises(BadMessage, match=f"arguments are {name}, no object"):
        Message.from_wire(header(), arguments)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "not JSON"),
        ('{"header"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "is list, no object"),
        ("null", "is NoneType, no object"),
        ("{}", "no 'frappe_jobs' header"),
        ('{"header": {"version": 4}}', "arguments are NoneType"),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_is_no_message_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(BadMessage, match=wrong):
        Message.from_json(text)


# --- Retry


@pytest.mark.parametrize("wrong", [0, -1, True, False, "3", 1.0, None, [1]])
def test_retrys_max_must_be_a_count(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="Retry's max must be a whole number, 1 or more") as no:
        Retry(wrong)
    assert str(no.value).endswith(f"not {wrong!r}.")


@pytest.mark.parametrize(
    "wrong", [-1, True, "5", "", 1.5, None, (), (1, -1), (1, "2"), (1, True), (1.5,), {1: 2}, {1}]
)
def test_retrys_interval_must_be_seconds(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="Retry's interval must be seconds, or a list") as no:
        Retry(1, wrong)
    assert str(no.value).endswith(f"not {wrong!r}.")


def test_retry_keeps_its_own_copy_of_the_list() -> None:
    waits = [1, 2]
    retry = Retry(2, waits)
    waits.append(-3)
    assert retry == Retry(2, (1, 2)) and hash(retry)


@pytest.mark.parametrize(
    ("interval", "delays"),
    [
        (0, [0, 0, 0, 0]),
        (7, [7, 7, 7, 7]),
        ([5], [5, 5, 5, 5]),
        ([1, 5, 30], [1, 5, 30, 30]),
        (range(10, 40, 10), [10, 20, 30, 30]),
    ],
)
def test_the_nth_failure_waits_for_the_nth_interval_and_then_for_the_last(
    interval: Any, delays: list[int]
) -> None:
    assert [Retry(9, interval).delay(attempt) for attempt in (1, 2, 3, 4)] == delays


def test_a_retry_waits_for_nothing_unless_told() -> None:
    assert Retry(1).delay(1) == 0
