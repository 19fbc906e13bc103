"""``python -m benchmarks.web``: the pages of a bench with a thousand sites and a million jobs.

The jobs lie in Redis as ``enqueue_many`` leaves them there, with their messages.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from benchmarks.arena import make_sites, server_in
from frappe_jobs import runtime
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED
from frappe_jobs.message import Message, Sending
from frappe_jobs.runtime import Runtime
from frappe_jobs.testing import wait_until

SITES = [f"customer-{number:04}.branch.example-of-a-long-name.com" for number in range(1000)]
QUEUES = ["short", "default", "long", *(f"nightly-reports-of-region-{n:02}" for n in range(47))]
CONFIG = {
    "bench_id": "benchmarks", "frappe_jobs_web": {"session_hours": 12}, "rq_results_ttl": 86400,
    "rq_failed_jobs_limit": 100000, "default_site": SITES[0],
    "workers": {queue: {"timeout": 1500} for queue in QUEUES[3:]},
}  # fmt: skip
#: What is wanted: milliseconds for a page, MB of the process, percent of a core for the browsers.
WANTED, WANTED_MEMORY, WANTED_REDIS = 100, 90, 2
CHUNK, ROUNDS, BROWSERS, WATCHED = 500, 20, 50, 60.0
TRACEBACK = "".join(
    f'  File "apps/shop/shop/stock/ledger_{n}.py", line {n}, in update\n    self.post(entry, {n})\n'
    for n in range(40)
)
PAGES = {
    "overview": "/",
    "all jobs": "/jobs",
    "failed jobs": "/jobs?status=failed",
    "jobs of a site": f"/jobs?site={SITES[7]}",
    "jobs of a method": "/jobs?method=shop.tasks.method_7",
    "queues": "/queues",
    "schedule": f"/schedule?site={SITES[7]}",
    "tasks": f"/tasks?site={SITES[7]}",
    "doctor": "/doctor",
}  # fmt: skip


def messages(seed: int, count: int, begun: float) -> Iterator[Message]:
    draw = random.Random(seed)
    for number in range(count):
        made = str(uuid4())
        yield Message(
            id=made, job_id=made, site=SITES[int(draw.paretovariate(0.5)) % len(SITES)],
            user=f"user{draw.randrange(200)}@example.com",
            method=f"shop.tasks.method_{int(draw.paretovariate(0.5)) % 300}",
            queue=draw.choice(QUEUES), name="a job", timeout=300,
            enqueued_at=begun + number / 100,
            arguments={"doctype": "Sales Invoice", "name": f"SINV-{number:06}"},
        )  # fmt: skip


def fill(here: Runtime, waiting: int, ended: int) -> None:
    """Jobs that wait, with their messages, and jobs that have ended, a fifth of them failed."""
    begun = time.time() - 20_000
    made = messages(0, waiting, begun)
    while some := [*islice(made, CHUNK)]:
        here.broker.publish([Sending(one) for one in some], here.ledger)
    made = messages(1, ended, begun)
    while some := [*islice(made, CHUNK)]:
        here.ledger.record([Sending(one) for one in some])
        end(here, some)


def end(here: Runtime, some: list[Message]) -> None:
    with here.ledger.redis.pipeline(transaction=False) as pipe:
        for number, one in enumerate(some):
            status = (FAILED, CANCELLED, FINISHED, FINISHED, FINISHED)[number % 5]
            fields = {}
            if status == FAILED:
                reason = f"ValidationError: Customer {number} has no address {number % 100}"
                error = "frappe.exceptions.ValidationError"
                fields = {"reason": reason, "error": error, "traceback": TRACEBACK + reason}
            here.ledger._ended(one, status, fields, False, client=pipe)
        pipe.execute()


class Served:
    """The pages as a process of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        said = next(line for line in process.stderr if "http://" in line)
        next(line for line in process.stderr if line.strip() == "ready")
        found = re.search(r"127\.0\.0\.1:(\d+)/", said)
        assert found
        self.port, self.pid = int(found[1]), process.pid

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def took(self, path: str, connection: http.client.HTTPConnection) -> float:
        """The milliseconds until the whole page is there."""
        begun = time.perf_counter()
        connection.request("GET", path)
        reply = connection.getresponse()
        page = reply.read()
        assert reply.status == 200, (path, reply.status, page[-1000:])
        return (time.perf_counter() - begun) * 1000

    @property
    def memory(self) -> float:
        found = Path(f"/proc/{self.pid}/status").read_text()
        return int(found.split("VmRSS:")[1].split()[0]) / 1000


@contextmanager
def served(sites: Path) -> Iterator[Served]:
    command = [sys.executable, "-m", "frappe_jobs", "web", "--port", "0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        env={**os.environ, "SITES_PATH": str(sites)},
    ) as process:  # fmt: skip
        try:
            yield Served(process)
        finally:
            process.terminate()


@contextmanager
def browsers(pages: Served, count: int) -> Iterator[None]:
    """So many that have the pages open."""
    opened, over = threading.Barrier(count + 1), threading.Event()

    def look(path: str) -> None:
        connection = pages.connection()
        pages.took(path, connection)
        page, _, query = path.partition("?")
        connection.request("GET", f"/live?page={quote(page)}&query={quote(query)}")
        reply = connection.getresponse()
        assert reply.status == 200 and reply.readline()
        opened.wait()
        while not over.is_set() and reply.readline():
            pass

    paths = [*PAGES.values()]
    for n in range(count):
        threading.Thread(target=look, args=(paths[n % len(paths)],), daemon=True).start()
    opened.wait(60)
    yield
    over.set()


def used(here: Runtime) -> float:
    """Seconds for which Redis was busy since it began."""
    cpu = here.ledger.redis.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def share(here: Runtime, seconds: float) -> float:
    """Percent of a core that Redis uses meanwhile."""
    before, begun = used(here), time.monotonic()
    time.sleep(seconds)
    return 100 * (used(here) - before) / (time.monotonic() - begun)


def verdict(found: float, wanted: float) -> str:
    return "reached" if found < wanted else "MISSED"


def measure(here: Runtime, sites: Path) -> None:
    with served(sites) as pages:
        print(f"memory after the start: {pages.memory:.0f} MB")
        connection = pages.connection()
        first = pages.took("/", connection)
        print(f"the very first page: {first:.0f} ms, wanted {WANTED}: {verdict(first, WANTED)}")
        for name, path in PAGES.items():
            first = pages.took(path, connection)
            times = sorted(pages.took(path, connection) for _ in range(ROUNDS))
            found = statistics.median(times)
            print(
                f"  {name:<18} {first:>6.0f} ms, then {found:>6.1f} ms, the slowest "
                f"{times[-1]:.1f}: {verdict(max(first, times[-1]), WANTED)}"
            )
        doctor(pages, connection)
        idle = share(here, 20)
        with browsers(pages, BROWSERS):
            taken = share(here, WATCHED)
        cost = taken - idle
        print(f"{BROWSERS} browsers: {cost:.2f} % of a core in Redis (beside {idle:.2f}), wanted "
              f"{WANTED_REDIS}: {verdict(cost, WANTED_REDIS)}")  # fmt: skip
        print(f"memory after them: {pages.memory:.0f} MB, wanted {WANTED_MEMORY}: "
              f"{verdict(pages.memory, WANTED_MEMORY)}")  # fmt: skip


def doctor(pages: Served, connection: http.client.HTTPConnection) -> None:
    """Wait until it has looked; what the process took for that."""
    begun, most = time.monotonic(), 0.0

    def has_looked() -> bool:
        nonlocal most
        most = max(most, pages.memory)
        connection.request("GET", "/doctor")
        return b'class="findings"' in connection.getresponse().read()

    wait_until(has_looked, 300, interval=0.5)
    print(f"the doctor had looked after {time.monotonic() - begun:.0f} s; memory meanwhile "
          f"{most:.0f} MB, now {pages.memory:.0f} MB")  # fmt: skip


def main(waiting: int, ended: int) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name, server_in(name) as url:
        sites = make_sites(Path(name) / "sites", url, SITES, CONFIG)
        here = runtime.use(sites)
        fill(here, waiting, ended)
        size = here.ledger.redis.info("memory")["used_memory"] / 1e6
        print(f"{waiting:,} jobs wait, {ended:,} have ended; Redis has {size:,.0f} MB")
        measure(here, sites)


if __name__ == "__main__":
    sizes = [int(one) for one in sys.argv[1:]] or [1_000_000, 100_000]
    main(*sizes)
