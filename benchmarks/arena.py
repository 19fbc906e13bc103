"""Where a run takes place: a Redis server and a folder of its own, and the processes in it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks.contenders import SITES, Contender
from frappe_jobs.config import variable
from frappe_jobs.embedded import server_binary
from frappe_jobs.testing import wait_until

ROOT = Path(__file__).parents[1]
TIMEOUT = 60


class Producer:
    """A contender's process that sends jobs."""

    def __init__(self, contender: Contender, process: subprocess.Popen[str]) -> None:
        self._contender, self._process = contender, process

    def send(self, count: int, call: str = "") -> float:
        """Have it send so many jobs; how many seconds it took."""
        return self.ask(call or self._contender.enqueue, count)

    def ask(self, call: str, count: int = 1) -> float:
        """Have it make that call; how many seconds it took."""
        return float(self.say(call, count))

    def say(self, call: str, count: int = 1) -> str:
        """Have it make that call; its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{call} {count}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


class Arena:
    """The server, with a database for each contender, and the folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url.removesuffix("/0")
        self._databases: dict[str, int] = {}
        sites = folder / SITES
        (sites / "site1").mkdir(parents=True)
        (sites / "site1/site_config.json").write_text("{}")
        (sites / "apps.txt").write_text("benchmarks\n")
        (sites / "common_site_config.json").write_text('{"bench_id": "benchmarks"}')

    def sites(self, contender: Contender) -> Path:
        """Its sites folder."""
        return self._folder / contender.sites

    def server(self, contender: Contender) -> Any:
        return redis.Redis.from_url(self.url(contender))

    def waiting(self, contender: Contender) -> int:
        with self.server(contender) as server:
            return contender.waiting(server)

    def clear(self, contender: Contender) -> None:
        with self.server(contender) as server:
            server.flushdb()

    @contextmanager
    def producer(self, contender: Contender) -> Iterator[Producer]:
        command = [sys.executable, "-m", "benchmarks.producer", contender.module]
        with subprocess.Popen(
            command, cwd=ROOT, env=self._environment(contender), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            yield Producer(contender, process)

    def fill(self, contender: Contender, count: int) -> None:
        """Send jobs that nobody takes yet, from a process that is gone afterwards.

        Were it still there, Celery's results would be sent to it as well.
        """
        before = self.waiting(contender)
        with self.producer(contender) as producer:
            producer.send(count, contender.fill)
        if (found := self.waiting(contender) - before) != count:
            raise RuntimeError(f"{contender.name}: {found} of {count} jobs wait.")

    @contextmanager
    def worker(self, contender: Contender) -> Iterator[subprocess.Popen[str]]:
        log = self._folder / f"{contender.module}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                contender.worker, cwd=ROOT, env=self._environment(contender), text=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
            if process.poll() is not None:
                raise RuntimeError(f"{contender.name}'s worker ended: {log.read_text()[-2000:]}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # what it has not done is of no interest
            process.wait()

    def wait(self, contender: Contender, process: subprocess.Popen[str], count: int) -> int:
        """Return how many jobs wait as soon as they are no more than that."""
        with self.server(contender) as server:
            found = -1

            def so_few() -> bool:
                nonlocal found
                found = contender.waiting(server)
                return found <= count or process.poll() is not None

            wait_until(so_few, TIMEOUT, interval=0.002)
            return found

    def url(self, contender: Contender) -> str:
        """Of its database."""
        number = self._databases.setdefault(contender.name, len(self._databases))
        return f"{self._url}/{number}"

    def _environment(self, contender: Contender) -> dict[str, str]:
        url = self.url(contender)
        theirs = {k: v for k, v in os.environ.items() if not k.startswith("FRAPPE_")}
        return theirs | {
            "BENCHMARKS_REDIS": url,
            variable("redis_queue"): url,
            "SITES_PATH": str(self.sites(contender)),
        }


@contextmanager
def opened() -> Iterator[Arena]:
    """An arena; all of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        with server_in(name) as url:
            yield Arena(Path(name), url)


def make_sites(folder: Path, url: str, sites: Iterable[str], config: Mapping[str, Any]) -> Path:
    """A sites folder with these sites, that configuration and the server at that URL."""
    for site in sites:
        (folder / site).mkdir(parents=True)
        (folder / site / "site_config.json").write_text("{}")
    (folder / "apps.txt").write_text("benchmarks\n")
    (folder / "common_site_config.json").write_text(json.dumps({**config, "redis_queue": url}))
    return folder


@contextmanager
def server_in(folder: str) -> Iterator[str]:
    """A Redis on a port, where each contender finds it; libraries are compared here, no disks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options = {"--port": port, "--bind": "127.0.0.1", "--save": "", "--dir": folder}
    command = [server_binary(), *(part for option in options.items() for part in option)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        wait_until(lambda: answers(url), TIMEOUT)
        yield url
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Whether a Redis is there."""
    with redis.Redis.from_url(url) as server:
        try:
            return bool(server.ping())
        except redis.ConnectionError:
            return False
