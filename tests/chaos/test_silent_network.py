"""A network that swallows, freezes, refuses, drops what is idle; a cable that is pulled out

What is sent meanwhile comes by another way, into the same queues.  The workers are cut off while
they run jobs that take longer than a lease, and everybody who asks is told so in time.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import warm
from acme import tasks
from chaos.conftest import IS_FULL, LEASE, Scene
from chaos.crew import Crew
from network import Network
from proxy import DOWN, UP

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(1200)

#: Seconds at most until work goes on after the network's return.
WANTED = 10
#: And until who asks is told that nobody answers.
TOLD = 30
#: The longest job: it would meet another run of itself if it were left alone.
LONGEST_JOB = 3 * LEASE

Cut = tuple[str, ...]

#: How the network spoils, and for how many seconds.
CUTS: list[tuple[Cut, int]] = [
    (("swallow",), 60), (("swallow", DOWN), 40), (("swallow", UP), 40), (("freeze",), 40),
    (("refuse",), 20),
]  # fmt: skip
SHORT_CUTS: list[tuple[Cut, int]] = [(("swallow", UP), 5)]

#: Asked by the spoilt way.
COMMANDS = (
    ("--site", "site1", "enqueue", "acme.tasks.ping"),
    ("queues",),
    ("doctor",),
    ("--site", "site1", "jobs", "list"),
)


class Load:
    """Sends a job every now and then, by the way that it finds, until the block ends."""

    def __init__(self, random: Random) -> None:
        self._random, self._over = random, threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.sent: list[str] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def _send(self) -> None:
        with frappe.site("site1"):
            while not self._over.wait(0.5):
                number = len(self.sent)
                is_long = self._random.random() < 0.1
                seconds = LONGEST_JOB if is_long else self._random.uniform(0, 0.3)
                frappe.enqueue(tasks.run, job_id=f"{number}", number=number, seconds=seconds)
                self.sent.append(f"{number}")

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(60)


@pytest.fixture
def network(broker_urls: list[str], make_bench: Any, size: Any) -> Iterator[Network]:
    # In the full form with the limits that we set; they make a short one too long.
    queries = size({"redis_query": "", "amqp_query": ""}, {})
    config = {"frappe_jobs_lease": LEASE, "frappe_jobs_max_starts": 20}
    with Network(make_bench, *broker_urls, **queries | config) as network:
        network.direct.use()
        yield network


@pytest.fixture
def broker(broker_urls: list[str]) -> str:
    return "rabbitmq" if broker_urls[1:] else "redis"


def test_a_cut_loses_nothing_overlaps_nothing_and_is_over_when_it_is(network, random, size, found):
    scene = Scene(network.bench)
    cuts = size(CUTS, SHORT_CUTS)
    absences, told = [], []
    with frappe.site("site1"), Crew(network.bench, "--concurrency", "2", "--quiet") as crew:
        with Load(Random(random.random())) as load:
            for how, seconds in cuts:
                wait_for_more(scene, 10)
                network.tell(*how)
                ends = time.monotonic() + seconds
                if how[0] == "swallow":
                    told += [told_in_time(network, command) for command in size(COMMANDS, ())]
                threading.Event().wait(max(0, ends - time.monotonic()))
                network.tell("restore")
                absences.append(seconds_until_work(scene))
        scene.wait_for_all(300, crew.assert_alive)
        verdict = scene.judge(load.sent)
    in_time = f", who asked was told after {max(told):.0f} s at the latest" if told else ""
    found(
        f"{len(cuts)} cuts of {', '.join(f'{seconds} s' for _, seconds in cuts)}{in_time}: "
        f"{len(load.sent):,} jobs, {verdict}; work went on {max(absences):.1f} s after the "
        f"network's return at the latest"
    )
    assert verdict.faults == []
    assert max(absences) < WANTED


@pytest.mark.skipif(not IS_FULL, reason="Its short form is among the integration tests.")
def test_idle_connections_that_are_dropped_cost_nobody_a_thing(network, found):
    after = 30
    network.bench.use()
    slowest = 0.0
    with frappe.site("site1"), Crew(network.bench, "--quiet", size=1):
        for reset in (True, False):
            network.tell("drop_idle", after, reset=reset)
            job = frappe.enqueue(tasks.work, seconds=after + 3, name="busy")
            job.wait(after + 30)
            for _ in range(2):
                began = time.monotonic()
                assert frappe.enqueue(tasks.ping).wait(WANTED) == "pong"
                slowest = max(slowest, time.monotonic() - began)
    found(
        f"connections dropped after {after} s, with a word and without: 0 calls failed, the "
        f"slowest job was through after {slowest:.1f} s"
    )
    assert slowest < WANTED / 2


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """A host of its own on a cable: the name of its namespace, and our address for it."""
    number = int(uuid4().hex[:4], 16)
    name, subnet = f"chaos{number}", f"10.213.{number % 64}"
    ip = ("ip", "-n", name)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in (
            ("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name),
            ("ip", "addr", "add", f"{subnet}.1/30", "dev", name),
            ("ip", "link", "set", name, "up"),
            (*ip, "addr", "add", f"{subnet}.2/30", "dev", "eth0"),
            (*ip, "link", "set", "eth0", "up"),
            (*ip, "link", "set", "lo", "up"),
        ):
            subprocess.run(command, check=True)
        yield name, f"{subnet}.1"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def forker_in(name: str) -> warm.Forker:
    """Begins commands in that namespace: a thread's is its children's."""
    made: list[warm.Forker] = []

    def make() -> None:
        with open(f"/run/netns/{name}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(warm.Forker())

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def can_have_a_cable() -> bool:
    try:
        with cable():
            return os.geteuid() == 0
    except (OSError, subprocess.CalledProcessError):
        return False


def test_a_cable_that_is_pulled_out(broker_urls, make_bench, random, size, found):
    if not can_have_a_cable():
        pytest.skip("Only root may have network namespaces here.")
    seconds = size(60, 8)
    queries = size({"redis_query": "", "amqp_query": ""}, {})
    config = {"frappe_jobs_lease": LEASE, "frappe_jobs_max_starts": 20}
    with cable() as (name, address):
        with Network(make_bench, *broker_urls, host=address, **queries | config) as network:
            network.bench.forker = forker_in(name)
            network.direct.use()
            scene = Scene(network.bench)
            with frappe.site("site1"), Crew(network.bench, "--concurrency", "2", "--quiet") as crew:
                with Load(Random(random.random())) as load:
                    wait_for_more(scene, 10)
                    subprocess.run(["ip", "link", "set", name, "down"], check=True)
                    threading.Event().wait(seconds)
                    subprocess.run(["ip", "link", "set", name, "up"], check=True)
                    absence = seconds_until_work(scene)
                scene.wait_for_all(300, crew.assert_alive)
                verdict = scene.judge(load.sent)
            network.bench.forker.close()
    found(
        f"a cable pulled out for {seconds} s: {len(load.sent):,} jobs, {verdict}; work went on "
        f"{absence:.1f} s after its return"
    )
    assert verdict.faults == []
    assert absence < WANTED


def told_in_time(network: Network, command: tuple[str, ...]) -> float:
    began = time.monotonic()
    said = network.bench.run(*command)
    took = time.monotonic() - began
    assert said.returncode, said.stdout
    assert "Traceback" not in said.stderr, said.stderr
    assert took < TOLD, command
    return took


def wait_for_more(scene: Scene, count: int) -> None:
    wanted = scene.runs.begun + count
    wait_until(lambda: scene.runs.begun >= wanted, 60)


def seconds_until_work(scene: Scene) -> float:
    now = time.time()
    return (
        wait_until(
            lambda: next((one for one in scene.runs.begins() if one["at"] > now), None), 120
        )["at"]
        - now
    )
