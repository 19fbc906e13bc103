"""What is done beside a process's own work, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from frappe_jobs.celery.apart import Apart
from frappe_jobs.testing import wait_until

STOPPED_WHILE_IT_FORKS = """
import os, signal, sys
from frappe_jobs.celery.apart import Apart
def stop(*_): raise SystemExit(3)
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, stop)
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.{name}))
Apart(lambda: None).start()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_who_is_asked_to_stop_while_it_starts_one_stops(name):
    code = STOPPED_WHILE_IT_FORKS.format(name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "")


def test_it_ends_when_it_is_asked_to_and_leaves_its_parents_signals():
    reading, writing = os.pipe()
    before = signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    apart = Apart(lambda: os.write(writing, b"!") and signal.pause())
    apart.start()
    assert os.read(reading, 1) == b"!"
    assert (
        signal.getsignal(signal.SIGTERM),
        signal.pthread_sigmask(signal.SIG_BLOCK, []),
    ) == before
    apart.terminate()
    assert wait_until(lambda: not apart.is_alive(), 10)
    assert apart.exitcode == -signal.SIGTERM
    for end in (reading, writing):
        os.close(end)
