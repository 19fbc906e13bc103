"""What is wrong with a message so that Celery would trip over it, or that none of ours has."""

from __future__ import annotations

import json
import pickle

import pytest
from kombu import Message
from kombu.compression import compress

from frappe_jobs.celery import mailbox
from frappe_jobs.celery.fault import fault_of, fault_of_job
from frappe_jobs.celery.transport import redis
from frappe_jobs.celery.transport.unpack import unpacked
from frappe_jobs.config import Settings
from frappe_jobs.message import HEADER, TASK, VERSION

PICKLE = "application/x-python-serialize"
OURS = {
    "version": VERSION, "id": "1", "job_id": "1", "site": "site1", "user": "Administrator",
    "method": "acme.tasks.ping", "queue": "default", "name": "ping", "timeout": 300,
    "enqueued_at": 1.5,
}  # fmt: skip
HEADERS = {"task": TASK, "id": "1", "retries": 0, "timelimit": [310, 300], HEADER: OURS}


def sent(body="[[{}], {}, {}]", content_type="application/json", accept=("json",), **headers):
    headers = {name: value for name, value in (HEADERS | headers).items() if value != "absent"}
    return Message(
        body=body, content_type=content_type, content_encoding="utf-8", headers=headers,
        accept={"application/json", *accept},
    )  # fmt: skip


def ours(**envelope):
    return sent(**{HEADER: OURS | envelope})


def theirs(*arguments, **headers):
    return sent(*arguments, **{"task": "team.double", HEADER: "absent"} | headers)


@pytest.fixture
def settings(tmp_path):
    return Settings(sites_path=tmp_path, custom_bench_id="shop", redis_queue="redis://")


def deep(levels):
    return f'[[{{"x": {"[" * levels + "]" * levels}}}], {{}}, {{}}]'


@pytest.mark.parametrize(
    "message",
    [
        sent(),
        sent(retries=3, eta="2026-11-28T15:00:00+00:00"),
        sent(retries="absent", timelimit="absent"),
        sent(timelimit=[None, 0.5], shadow="ä name", origin="gen1@vm", root_id=None),
        sent(stamps={"a": 1}, stamped_headers=["a"], redelivered=True),
        sent(traceparent="00-1-2-01", headers={"baggage": "x", HEADER: OURS}),
        sent(deep(300)),
        sent('[[{"x": 1}], {}, {"callbacks": null, "errbacks": [], "chain": null}]'),
        ours(retry={"max": 3, "interval": [1, 2]}, event="daily", at_front=True),
        ours(version=99, id=5, surprise=1),
    ],
)
def test_a_message_of_ours_has_no_fault(message, settings):
    assert fault_of_job(message, settings) is None


@pytest.mark.parametrize(
    "message",
    [
        theirs(),
        theirs("[[1, 2], {}, {}]", stamps={}, expires="2026-11-28T15:00:00"),
        theirs('[[], {}, {"errbacks": [{"task": "x"}], "chord": {"task": "y"}}]'),
        theirs(pickle.dumps([[], {}, {}]), PICKLE, [PICKLE]),
    ],
)
def test_nor_has_one_of_a_teams(message):
    assert fault_of(message, runs_built_ins=False) is None


def test_a_teams_app_may_use_celerys_own_tasks():
    message = theirs(task="celery.map")
    assert fault_of(message, runs_built_ins=True) is None
    assert "task of Celery's own" in fault_of(message, runs_built_ins=False)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (sent(pickle.dumps([[], {}, {}]), PICKLE, [PICKLE]), f"is '{PICKLE}', not JSON"),
        (sent("{half"), "cannot be read: DecodeError"),
        (sent("[[], {}]"), "holds no arguments of a Celery task"),
        (sent(deep(400)), "has an argument that is nested over"),
        (sent(deep(90_000)), "cannot be read: "),
        (sent("[[{}, {}], {}, {}]"), "holds other arguments"),
        (sent('[[{}], {"a": 1}, {}]'), "holds other arguments"),
        (sent('[[{"x": {"__type__": "decimal", "__value__": "1"}}], {}, {}]'), "holds an argument"),
        (sent('[[{}], {}, {"chain": [{"task": "x"}]}]'), "asks Celery for more"),
        (sent('[[{}], {}, {"errbacks": 5}]'), "has an invalid 'errbacks': 5"),
        (sent("x" * 11_000_000), "is of 11000000 bytes"),
        (sent(id="absent"), "has no id: None"),
        (sent(id="a b"), "has no id: 'a b'"),
        (sent(id="2"), "calls itself '1', but has another id"),
        (sent(eta=""), "has under 'eta' no time"),
        (sent(eta="0001-01-01"), "has under 'eta' no time"),
        (sent(expires={}), "has under 'expires' no time"),
        (sent(expires="2026-11-28T15:00:00"), "expires, which a job never does"),
        (sent(stamps=5), "has under 'stamps' no object of stamps: 5"),
        (sent(timelimit=[-1, None]), "has under 'timelimit' no pair"),
        (sent(timelimit=[float("nan"), 1]), "has under 'timelimit' no pair"),
        (sent(retries=None), "has under 'retries' no number of retries"),
        (sent(chain=[]), "has a header of Celery's own making: 'chain'"),
        (sent(get=1), "has a header of Celery's own making: 'get'"),
        (sent(headers={HEADER: OURS | {"user": "root"}}), "has two envelopes"),
        (sent(odd="\ud800"), "has under 'odd' a text that cannot be sent"),
        (sent(odd=json.loads("[" * 30 + "]" * 30)), "has headers that are nested"),
        (sent(**{HEADER: "absent"}), "is no job: The message has no"),
        (ours(timeout=0), "is no job: The message's 'timeout' is 0"),
        (ours(enqueued_at=1e300), "is no job: The message's 'timeout'"),
        (ours(retry={"max": 1, "interval": 10**12}), "is no job: The message's 'retry'"),
        (ours(queue="nowhere"), "is for the queue 'nowhere', which is not configured"),
        (ours(surprise=1), "is no job: The message has unknown fields: surprise."),
    ],
)
def test_what_none_of_ours_has_is_named(message, said, settings):
    assert (fault_of_job(message, settings) or "").startswith(said)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (theirs(task="absent"), "is no Celery task"),
        (theirs(task=["x"]), "is no Celery task"),
        (theirs(id=5), "has no id: 5"),
        (theirs(stamps=5), "has under 'stamps' no object"),
        (theirs(eta=[1]), "has under 'eta' no time"),
        (theirs("[{}, [], {}]"), "holds no arguments"),
        (theirs('[[], {}, {"chord": [1]}]'), "has an invalid 'chord'"),
        (theirs(pickle.dumps([[], {}, {}]), PICKLE), "is of a kind that the app does not accept"),
    ],
)
def test_what_celery_would_trip_over_is_named_of_a_teams_as_well(message, said):
    assert (fault_of(message, runs_built_ins=False) or "").startswith(said)


ENVELOPE = {
    "body": "", "headers": {}, "content-type": "application/json", "content-encoding": "utf-8",
    "properties": {
        "delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "q"}, "priority": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize("properties", [{}, {"priority": None}, {"body_encoding": "base64"}])
def test_kombus_own_envelope_has_no_fault(properties):
    envelope = ENVELOPE | {"properties": ENVELOPE["properties"] | properties}
    assert redis.fault_of(envelope) is None


@pytest.mark.parametrize(
    ("envelope", "said"),
    [
        (None, "NoneType"),
        ([], "list"),
        ({}, "'properties' is NoneType"),
        (ENVELOPE | {"headers": 5}, "'headers' is int"),
        (ENVELOPE | {"body": ["x"]}, "'body' is list"),
        (ENVELOPE | {"properties": {}}, "'delivery_tag' is NoneType"),
        (ENVELOPE | {"properties": {"delivery_tag": "1"}}, "'delivery_info' is NoneType"),
        (
            ENVELOPE | {"properties": ENVELOPE["properties"] | {"body_encoding": "rot13"}},
            "'body_encoding' is 'rot13'",
        ),
    ],
)
def test_what_is_no_envelope_is_named(envelope, said):
    assert redis.fault_of(envelope) == said


PING = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None}


def test_celerys_own_control_commands_have_no_fault():
    reply_to = {"exchange": "reply.celery.pidbox", "routing_key": "x"}
    assert mailbox.fault_of(PING | {"ticket": "1", "reply_to": reply_to}, {"clock": 5}) is None
    assert mailbox.fault_of(PING | {"destination": ["a@b"], "matcher": "glob"}, {}) is None


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (None, {}, "is no control command: NoneType"),
        ({"method": 5}, {}, "is no control command: its 'method' is 5"),
        (PING | {"x": 1}, {}, "is no control command: it has ['x']"),
        (PING | {"matcher": "pcre"}, {}, "is a control command for workers by a regular"),
        (PING | {"reply_to": {"a": 1}}, {}, "is a control command whose reply goes nowhere"),
        (PING, {"clock": "x"}, "is a control command with an invalid clock: 'x'"),
        (PING, {"clock": 10**30}, "is a control command with an invalid clock"),
    ],
)
def test_what_is_no_control_command_is_named(body, headers, said):
    assert mailbox.fault_of(body, headers).startswith(said)


@pytest.mark.parametrize("kind", ["zlib", "bzip2", "lzma"])
def test_what_is_compressed_is_unpacked_up_to_a_limit(kind):
    packed, _ = compress(b"x" * 5000, kind)
    assert unpacked(packed, kind, 5001, knows_others=False) == b"x" * 5000
    with pytest.raises(Exception, match="over 4000 bytes"):
        unpacked(packed, kind, 4000, knows_others=False)
    with pytest.raises(Exception, match="damaged"):
        unpacked(packed[:-1], kind, 5001, knows_others=False)
