"""Processes that race for the same job ids, each with deduplicate: one message and run for each

All of them enqueue all ids, each in an order of its own, before a worker comes.
"""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest
import warm
from chaos.crew import Crew

from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(300)

#: Waits on standard input for the start, then says how many it has sent.
RACER = """
import json, random, sys
import frappe_jobs as frappe
ids = list(range(int(sys.argv[1])))
random.Random(sys.argv[2]).shuffle(ids)
with frappe.site("site1"):
    frappe.is_job_enqueued("nothing")
    print("ready", flush=True)
    sys.stdin.read()
    sent = [
        n for n in ids
        if frappe.enqueue("acme.tasks.run", job_id=f"{n}", deduplicate=True, number=n)
    ]
print(json.dumps(sent))
"""


def test_each_id_is_sent_once_and_runs_once(scene, random, size, found):
    racers, ids = size((16, 500), (6, 60))
    started = [Racer(scene.bench, ids, random.random()) for _ in range(racers)]
    for one in started:
        assert one.said.readline() == "ready\n"
    for one in started:
        one.begin.close()
    sent = Counter(number for one in started for number in json.loads(one.said.read()))
    for one in started:
        one.said.close()
        assert one.process.wait(60) == 0
    messages = runtime.current().broker.depth("default")
    with Crew(scene.bench, "--concurrency", "2", size=1):
        scene.wait_for_all(120)
        wait_until(lambda: runtime.current().broker.depth("default") == 0, 10)
    verdict = scene.judge([f"{number}" for number in range(ids)])
    found(f"{racers} processes, {ids} ids: {messages} messages; {verdict}")
    assert sent == Counter(range(ids))
    assert (messages, verdict.runs, verdict.faults) == (ids, ids, [])


class Racer:
    """A process of them, and its standard streams."""

    def __init__(self, bench, ids, seed):
        (stdin, begin), (said, stdout) = os.pipe(), os.pipe()
        self.process = bench.start(
            [RACER, str(ids), str(seed)], bench.path, bench.environment, stdin, stdout, 2,
            module=warm.CODE,
        )  # fmt: skip
        os.close(stdin)
        os.close(stdout)
        self.begin, self.said = os.fdopen(begin, "w"), os.fdopen(said)
