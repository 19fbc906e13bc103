"""At front, while ordinary jobs wait and the worker is busy: none of them starts before it

A send counts if it lay within the run of one ordinary job: that is the one which had begun already.
"""

from __future__ import annotations

import pytest
from acme import tasks
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs.testing import slowness, wait_until

pytestmark = pytest.mark.timeout(300)

#: Of an ordinary job, in seconds.
LENGTH = 0.04
#: Numbers from here on are at-front jobs'.
FRONT = 1_000_000


def test_no_ordinary_job_starts_between_the_send_and_the_at_front_job(scene, random, size, found):
    jobs, sends = size((500, 40), (40, 5))
    length = LENGTH * slowness()  # of a job; a send must find its place within one
    frappe.enqueue_many(
        {"method": tasks.run, "number": number, "seconds": length} for number in range(jobs)
    )
    within: dict[int, int] = {}  # at-front jobs, and the ordinary one during which each was sent
    with Crew(scene.bench, "--queue", "default", size=1):
        for number, moment in enumerate(sorted(random.sample(range(jobs - 5), sends)), FRONT):
            wait_until(lambda at=moment: scene.runs.begun >= at, 60, interval=0.002)
            before = next_begin(scene)
            frappe.enqueue(tasks.run, at_front=True, number=number)
            if scene.runs.events[-1] is before:  # it runs on
                within[number] = before["number"]
        scene.wait_for_all(120)
    order = [begin["number"] for begin in scene.runs.begins()]
    overtook = {
        number: ordinary_between(order, during, number) for number, during in within.items()
    }
    found(
        f"{jobs} jobs waiting, {sends} at-front jobs, {len(within)} of them sent within one run: "
        f"{sum(map(len, overtook.values()))} ordinary jobs started before them"
    )
    assert len(within) > sends / 2
    assert not any(overtook.values()), overtook
    fronts = [number for number in order if number >= FRONT]
    assert fronts == sorted(fronts)  # first in, first out
    assert len(order) == jobs + sends


def next_begin(scene):
    """The begin of an ordinary job that has just begun."""
    last = scene.runs.begun

    def begun():
        if scene.runs.begun <= last:
            return None
        event = scene.runs.events[-1]
        return event if event["what"] == "begin" and event["number"] < FRONT else None

    return wait_until(begun, 30, interval=0.002)


def ordinary_between(order, during, front):
    between = order[order.index(during) + 1 : order.index(front)]
    return [number for number in between if number < FRONT]
