"""Damaged and hostile messages: none is executed, each is logged once, the worker goes on

Not JSON, pickle, unknown versions, functions of the system, another site's ids.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import Counter
from uuid import UUID

import pytest
from acme import tasks
from chaos.crew import Crew
from kombu import Connection

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.message import HEADER, TASK
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(300)

JSON, PICKLE = "application/json", "application/x-python-serialize"

#: A message that is kept aside, a job that fails, a message with an id that is not its own.
LOGGED = re.compile(": ERROR/.*(is kept aside|raised unexpected|it is dropped)")


class Exploit:
    """Whoever unpickles this makes a file."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def message(random, command, method="os.system", **header):
    """A message of ours by its form, which asks for what it must not have."""
    message_id = header.get("id") or str(UUID(int=random.getrandbits(128), version=4))
    ours = {
        "version": 1, "id": message_id, "job_id": message_id, "site": "site1", "method": method,
        "user": "Administrator", "queue": "default", "name": "x", "timeout": 9, "enqueued_at": 1.0,
    } | header  # fmt: skip
    return {
        "body": json.dumps([[{"command": command}], {}, {}]),
        "headers": {"task": TASK, "id": message_id, "lang": "py", HEADER: ours},
        "content_type": JSON, "content_encoding": "utf-8",
    }  # fmt: skip


def not_json(random, command, _):
    return message(random, command) | {"body": random.choice(["{half", "\x00", "[[1]", "ä" * 9])}


def no_task(random, command, _):
    headers = random.choice([{}, {"task": "os.system", "id": "1"}, {"task": 5}, {"id": "x"}])
    return message(random, command) | {"headers": headers}


def pickled(random, command, _):
    body = pickle.dumps([[Exploit(command)], {}, {}])
    kind = {"content_type": random.choice([PICKLE, "application/data"])}
    return message(random, command) | {"body": body, "content_encoding": "binary"} | kind


def unknown_version(random, command, _):
    return message(random, command, version=random.choice([-1, 0, "1", None, True, 1.5, []]))


def of_the_system(random, command, _):
    paths = ["os.system", "acme.tasks.system", "acme.tasks.os.system", "subprocess.getoutput"]
    return message(random, command, method=random.choice(paths))


def another_sites_id(random, command, theirs):
    """The ids of a job of the other site that waits, in the name of this one."""
    return message(
        random, command, **random.choice([{"id": theirs.message_id}, {}]), job_id=theirs.id
    )


def another_site(random, command, _):
    return message(random, command, site=random.choice(["nowhere", "../site1", "", 5]))


KINDS = (not_json, no_task, pickled, unknown_version, of_the_system, another_sites_id, another_site)


def test_none_is_executed_and_each_is_logged_once(scene, random, size, found):
    count = size(1_000, 70)
    touched = scene.bench.path / "touched"
    with frappe.site("site2"):
        theirs = frappe.enqueue(tasks.ping, "long")
    sent = Counter()
    with Crew(scene.bench, "--queue", "default", size=1) as crew:
        with Connection(scene.bench.amqp_url or scene.bench.redis_url) as connection:
            producer = connection.Producer()
            for number in range(count):
                kind = KINDS[number % len(KINDS)]
                sent[kind.__name__] += 1
                one = kind(random, f"touch {touched}", theirs)
                producer.publish(one.pop("body"), routing_key=f"{scene.bench.id}:default", **one)
        assert frappe.enqueue(tasks.ping).wait(120) == "pong"
        wait_until(lambda: runtime.current().broker.depth("default") == 0, 30)
        crew.assert_alive()
        # What the host writes for people, as it does for each job that fails, is beside these.
        logged = [line for line in crew.logs.splitlines() if LOGGED.search(line)]
        assert not touched.exists()
        assert theirs.get_status() == "queued"
    with Crew(scene.bench, "--queue", "long", size=1):
        assert theirs.wait(30) == "pong"
    found(
        f"{count:,} messages of {len(sent)} kinds: worker alive, 0 executed, {len(logged):,} "
        f"logged; the other site's job ran"
    )
    assert len(logged) == count, "\n".join(logged)
