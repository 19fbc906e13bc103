"""The small parts of the worker that stand between us and what Celery and kombu forget."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from billiard.reduction import ForkingPickler
from celery.concurrency.asynpool import ResultHandler
from kombu.asynchronous import Hub

from frappe_jobs.celery.queue_order import InTheOrderTheyCame
from frappe_jobs.celery.results import FinishReading
from frappe_jobs.testing import slowness


def test_queues_stand_in_the_order_they_came_in_however_they_are_handed_over():
    order = InTheOrderTheyCame()
    for count in range(1, 6):
        order.update({f"queue{number}" for number in range(count)})  # as kombu 5.6 does
    assert order.consume(5) == [f"queue{number}" for number in range(5)]


def test_a_queue_that_is_left_and_joined_again_goes_to_the_end():
    order = InTheOrderTheyCame()
    for queues in (["a"], ["a", "b"], ["b"], ["b", "a"]):
        order.update(queues)
    assert order.consume(2) == ["b", "a"]


class Arriving:
    """A result on its way through a pipe, its first half read by Celery's loop."""

    def __init__(self):
        body = bytes(ForkingPickler.dumps(["the result"]))
        message = struct.pack(">i", len(body)) + body
        self.hub, self.results = Hub(), []
        self.fd, self.end = os.pipe()
        os.set_blocking(self.fd, False)
        os.write(self.end, message[:10])
        self.rest = message[10:]
        celery = SimpleNamespace(handle_event=lambda fd: None)
        reader = ResultHandler._recv_message(
            celery, self.hub.add_reader, self.fd, self.results.append
        )
        next(reader)
        self.hub.add_reader(self.fd, reader)

    def stop(self, timeout=5):
        step = FinishReading(None)
        step.timeout = timeout
        step.stop(SimpleNamespace(hub=self.hub))


@pytest.fixture
def arriving():
    arriving = Arriving()
    yield arriving
    arriving.hub.close()
    for fd in (arriving.fd, arriving.end):
        if fd is not None:
            os.close(fd)


class TestFinishReading:
    def test_a_result_that_was_arriving_is_read_to_its_end(self, arriving):
        threading.Timer(0.05, os.write, [arriving.end, arriving.rest]).start()
        arriving.stop()
        assert arriving.results == [["the result"]]

    def test_one_whose_process_is_gone_is_given_up_at_once(self, arriving):
        os.close(arriving.end)
        arriving.end = None
        begun = time.monotonic()
        arriving.stop()
        assert time.monotonic() - begun < slowness()
        assert arriving.results == []
        assert arriving.fd not in arriving.hub.readers

    def test_one_that_goes_no_further_is_given_up_in_time(self, arriving):
        arriving.stop(timeout=0.1)
        assert arriving.results == []
        assert arriving.fd not in arriving.hub.readers

    def test_without_an_event_loop_there_is_nothing_to_do(self):
        FinishReading(None).stop(SimpleNamespace(hub=None))


@pytest.mark.parametrize(("blocked", "rqs"), [("", True), ("sys.modules['rq'] = None; ", False)])
def test_the_timeouts_exception_is_rqs_too_only_where_rq_is_installed(blocked, rqs):
    code = (
        f"import sys; {blocked}"
        "from frappe_jobs.celery.timeout import JobTimeoutException as raised\n"
        "print([base.__module__ for base in raised.__mro__][1:])"
    )
    command = [sys.executable, "-c", code]
    bases = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "billiard.exceptions" in bases
    assert ("rq.timeouts" in bases) is rqs
