"""What is wrong with a message so that Celery would trip over it."""

from __future__ import annotations

import json
import pickle

import pytest
from kombu import Message

from frappe_jobs.celery.consumer import fault_of
from frappe_jobs.message import TASK

BODY = json.dumps([[], {}, {}])
HEADERS = {"task": TASK, "id": "1", "retries": 0, "timelimit": [310, 300]}
PICKLE = "application/x-python-serialize"


def sent(body=BODY, content_type="application/json", accept=("json",), **headers):
    headers = {name: value for name, value in (HEADERS | headers).items() if value != "absent"}
    return Message(
        body=body, content_type=content_type, content_encoding="utf-8", headers=headers,
        accept={"application/json", *accept},
    )  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        sent(),
        sent(task="team.double"),
        sent(retries=3),
        sent(retries="absent", timelimit="absent"),
        sent(timelimit=[None, None]),
        sent(timelimit=[None, 0.5]),
        sent(pickle.dumps([[], {}, {}]), PICKLE, [PICKLE], task="team.double"),
    ],
)
def test_a_message_of_celerys_has_none(message):
    assert fault_of(message) is None


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (sent(pickle.dumps([[], {}, {}]), PICKLE, [PICKLE]), f"is '{PICKLE}', not JSON"),
        (sent(pickle.dumps([[], {}, {}]), PICKLE, task="team.double"), "cannot be read: Content"),
        (sent("{half"), "cannot be read: DecodeError"),
        (sent(task="absent"), "is no Celery task"),
        (sent(task=["x"]), "is no Celery task"),
        (sent(id="absent"), "has no id"),
        (sent(id=5), "has no id"),
        (sent(id=None), "has no id"),
        (sent("[[], {}]"), "holds no arguments of a Celery task"),
        (sent("[{}, [], {}]"), "holds no arguments of a Celery task"),
        (sent('{"args": 1}'), "holds no arguments of a Celery task"),
        (sent(timelimit="soon"), "has time limits that are none: 'soon'"),
        (sent(timelimit=[-1, None]), "has time limits that are none: [-1, None]"),
        (sent(timelimit=[1, "x"]), "has time limits that are none: [1, 'x']"),
        (sent(retries="many"), "has a number of retries that is none: 'many'"),
        (sent(retries=None), "has a number of retries that is none: None"),
    ],
)
def test_what_would_end_the_worker_is_named(message, said):
    assert (fault_of(message) or "").startswith(said)
